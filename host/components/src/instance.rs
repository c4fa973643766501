//! One live instance of a component, and what its calls may end with.

use std::error::Error;
use std::fmt;

use wasmtime::{PoolConcurrencyLimitError, Store, Trap};

use crate::context::Context;
use crate::error::Limit;
use crate::{ComponentError, HostConfig, InputError, Limits};

/// Carries an error of what [`MetricInputs`](crate::MetricInputs) holds through the guest's stack.
#[derive(Debug)]
pub(crate) struct InputFailed(pub(crate) InputError);

impl fmt::Display for InputFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for InputFailed {}

/// An instance with its generated bindings. After an error it is dead: a guest that was stopped midway cannot be
/// entered again.
pub(crate) struct Instance<Bindings> {
    pub(crate) store: Store<Context>,
    bindings: Bindings,
    alive: bool,
    stack_bytes: usize,
}

impl<Bindings> Instance<Bindings> {
    /// Starts a fresh instance.
    pub(crate) fn start(
        engine: &wasmtime::Engine,
        config: &HostConfig,
        context: Context,
        instantiate: impl FnOnce(&mut Store<Context>) -> wasmtime::Result<Bindings>,
    ) -> Result<Self, ComponentError> {
        let crossing_bytes = context.limits.crossing_bytes;
        let mut store = Store::new(engine, context);
        store.limiter(|context| context);
        store.set_hostcall_fuel(crossing_bytes);
        store.epoch_deadline_callback(Context::check_time);
        store.set_epoch_deadline(1);
        store.data_mut().begin_call();
        match instantiate(&mut store) {
            Ok(bindings) => Ok(Self { store, bindings, alive: true, stack_bytes: config.stack_bytes }),
            Err(error) if error.is::<PoolConcurrencyLimitError>() => {
                let (component, limit) = (store.data().label.to_string(), config.pooled_instances);
                Err(ComponentError::Busy { component, limit })
            }
            Err(error) => Err(explain(&store, config.stack_bytes, "instantiate", error)),
        }
    }

    /// Calls into the guest under its limits.
    pub(crate) fn call<T>(
        &mut self,
        call: &'static str,
        enter: impl FnOnce(&Bindings, &mut Store<Context>) -> wasmtime::Result<T>,
    ) -> Result<T, ComponentError> {
        let Context { allowance, limits, label, .. } = self.store.data();
        // Counts until the call ends, whatever it ends with.
        let _running = allowance.begin_call(limits).map_err(|limit| ComponentError::Limit {
            component: label.to_string(),
            call,
            limit,
        })?;
        self.store.set_epoch_deadline(1);
        self.store.data_mut().begin_call();
        enter(&self.bindings, &mut self.store).map_err(|error| {
            self.alive = false;
            explain(&self.store, self.stack_bytes, call, error)
        })
    }

    /// Whether the instance can be called again.
    pub(crate) const fn is_alive(&self) -> bool {
        self.alive
    }
}

/// Turns what ended a call into an error that names the component and the limit.
pub(crate) fn explain(
    store: &Store<Context>,
    stack_bytes: usize,
    call: &'static str,
    error: wasmtime::Error,
) -> ComponentError {
    let context = store.data();
    let component = context.label.to_string();
    let error = match error.downcast::<InputFailed>() {
        Ok(InputFailed(source)) => return ComponentError::Input { component, call, source },
        Err(error) => error,
    };
    if let Some(limit) = reached_limit(&context.limits, stack_bytes, &error) {
        return ComponentError::Limit { component, call, limit };
    }
    let reason = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    ComponentError::Trap { component, call, reason }
}

fn reached_limit(limits: &Limits, stack_bytes: usize, error: &wasmtime::Error) -> Option<Limit> {
    if let Some(limit) = error.downcast_ref::<Limit>() {
        return Some(limit.clone());
    }
    if error.downcast_ref::<Trap>() == Some(&Trap::StackOverflow) {
        return Some(Limit::Stack(stack_bytes));
    }
    // wasmtime has no public types for these two.
    let cause = error.root_cause().to_string();
    if cause.contains("fuel allocated for hostcalls has been exhausted") {
        return Some(Limit::CrossingBytes(limits.crossing_bytes));
    }
    cause.contains("resource limit exceeded").then_some(Limit::Instances(limits.instances))
}
