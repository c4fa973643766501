//! Request routers, called in the path of every request.

use std::sync::{Mutex, PoisonError};

use crate::bindings::exports_of_routing::{Request, VariantStatus as GuestVariant};
use crate::bindings::routing::RequestRouter as Bindings;
use crate::calls::CallReport;
use crate::component::{Component, Prepared};
use crate::instance::Instance;
use crate::scoring::refusal;
use crate::{ComponentError, Identity, RouteRequest, VariantStatus, World};

/// Idle instances that are kept. More can run at the same time; the surplus is dropped afterwards.
const IDLE_INSTANCES: usize = 8;

/// A component of the world `request-router`. Calls may come from many threads at once: each takes an idle instance
/// or starts a fresh one (some microseconds). An instance that trapped or was stopped is dropped.
pub struct RequestRouter {
    component: Component,
    report: CallReport,
    idle: Mutex<Vec<Instance<Bindings>>>,
}

impl RequestRouter {
    /// The router of a component; an error for one of another world.
    pub fn new(component: Component) -> Result<Self, ComponentError> {
        match component.prepared() {
            Prepared::Routing(_) => {
                Ok(Self { component, report: CallReport::none(), idle: Mutex::new(Vec::new()) })
            }
            _ => Err(component.not_a(World::RequestRouter)),
        }
    }

    /// Reports its calls from now on.
    pub(crate) fn reporting(self, report: CallReport) -> Self {
        Self { report, ..self }
    }

    /// The component.
    pub fn component(&self) -> &Component {
        &self.component
    }

    /// Name, version and summary.
    pub fn identity(&self) -> &Identity {
        self.component.identity()
    }

    /// The index of the variant that answers the request. `variants` must not be empty.
    pub fn route(&self, request: &RouteRequest, variants: &[VariantStatus]) -> Result<usize, ComponentError> {
        self.report.watch(|| self.ask(request, variants))
    }

    fn ask(&self, request: &RouteRequest, variants: &[VariantStatus]) -> Result<usize, ComponentError> {
        let mut instance = match self.idle().pop() {
            Some(instance) => instance,
            None => self.start()?,
        };
        let guest_request = Request {
            model: request.model.clone(),
            prompt_tokens: request.prompt_tokens,
            max_tokens: request.max_tokens,
            streaming: request.streaming,
        };
        let guest_variants: Vec<_> = variants
            .iter()
            .map(|variant| GuestVariant {
                name: variant.name.clone(),
                running: variant.running,
                waiting: variant.waiting,
                kv_usage: variant.kv_usage,
                milliseconds_per_token: variant.milliseconds_per_token,
            })
            .collect();
        let answer = instance.call("route", |router, store| {
            router.espalier_policy_routing().call_route(store, &guest_request, &guest_variants)
        })?;
        let mut idle = self.idle();
        if idle.len() < IDLE_INSTANCES {
            idle.push(instance);
        }
        drop(idle);
        let index = answer.map_err(|message| refusal(self.component.label(), "route", &message))?;
        match usize::try_from(index) {
            Ok(index) if index < variants.len() => Ok(index),
            _ => Err(ComponentError::InvalidAnswer {
                component: self.component.label().to_owned(),
                call: "route",
                found: format!("the index {index}"),
                expected: format!("one below the number of variants, {}", variants.len()),
            }),
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Instance<Bindings>>> {
        // Nothing can panic between taking and giving back.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> Result<Instance<Bindings>, ComponentError> {
        match self.component.prepared() {
            Prepared::Routing(pre) => self.component.start(|_| (), |store| pre.instantiate(store)),
            _ => Err(self.component.not_a(World::RequestRouter)),
        }
    }
}

impl std::fmt::Debug for RequestRouter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RequestRouter({})", self.component.label())
    }
}
