//! An endpoint's component with its imports resolved, and stores to run it in.

use std::sync::Arc;
use std::task::{self, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use wasmtime::component::InstancePre;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};
use wasmtime_wasi_io::IoView;

use super::EndpointContext;
use super::guest_time::GuestTime;
use crate::bindings::endpoint::EndpointPre as AboutPre;
use crate::bindings::policy_types::Identity;
use crate::context::Context;
use crate::error::Limit;
use crate::host::Host;
use crate::instance::explain;
use crate::{ComponentError, GrantedHosts};

/// What an endpoint exports, ready to be instantiated.
pub(crate) struct EndpointPre {
    about: AboutPre<Context>,
    pub(super) handler: ProxyPre<Context>,
}

impl EndpointPre {
    pub(crate) fn new(pre: InstancePre<Context>) -> wasmtime::Result<Self> {
        Ok(Self { about: AboutPre::new(pre.clone())?, handler: ProxyPre::new(pre)? })
    }

    /// Asks the component who it is. Blocks.
    pub(crate) fn describe(&self, host: &Host, context: Context) -> Result<Identity, ComponentError> {
        self.run(host, context, "describe", async |store| {
            let instance = self.about.instantiate_async(&mut *store).await?;
            instance.espalier_endpoint_about().call_describe(store).await
        })
    }

    /// Starts an instance and drops it. Blocks.
    pub(crate) fn instantiate(&self, host: &Host, context: Context) -> Result<(), ComponentError> {
        self.run(host, context, "instantiate", async |store| {
            self.handler.instantiate_async(store).await.map(drop)
        })
    }

    /// Runs something that needs no models, on this thread and within the limits.
    fn run<T>(
        &self,
        host: &Host,
        mut context: Context,
        call: &'static str,
        run: impl AsyncFnOnce(&mut Store<Context>) -> wasmtime::Result<T>,
    ) -> Result<T, ComponentError> {
        let time = GuestTime::default();
        context.endpoint = Some(EndpointContext::new(&context, GrantedHosts::default().into(), None));
        let wall_time = context.limits.wall_time;
        let mut store = new_store(host, context, &time);
        let ended = wait_for(time.of(run(&mut store), host.config().tick), wall_time);
        let ended = ended.unwrap_or_else(|| Err(Limit::WallTime(wall_time).into()));
        ended.map_err(|error| explain(&store, host.config().stack_bytes, call, error))
    }
}

/// Runs a future on this thread, whether or not the thread belongs to a runtime; nothing where that takes too long.
fn wait_for<T>(future: impl Future<Output = T>, patience: Duration) -> Option<T> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let deadline = Instant::now() + patience;
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut task::Context::from_waker(&waker)) {
            return Some(answer);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}

/// A store for one call whose guest time is `time`.
pub(super) fn new_store(host: &Host, context: Context, time: &GuestTime) -> Store<Context> {
    let (crossing_bytes, tick) = (context.limits.crossing_bytes, host.config().tick);
    let mut store = Store::new(&host.inner.engine, context);
    store.limiter(|context| context);
    store.set_hostcall_fuel(crossing_bytes);
    let time = time.clone();
    store.epoch_deadline_callback(move |store| {
        check_time(store.data().limits.guest_time, &time, tick)?;
        // Others on this thread have their turn.
        Ok(UpdateDeadline::Yield(1))
    });
    store.set_epoch_deadline(1);
    store.data_mut().begin_call();
    store
}

fn check_time(limit: Duration, time: &GuestTime, tick: Duration) -> Result<(), Limit> {
    if time.tick(tick) > limit { Err(Limit::GuestTime(limit)) } else { Ok(()) }
}

impl IoView for Context {
    fn table(&mut self) -> &mut wasmtime::component::ResourceTable {
        Self::table(self)
    }
}

impl WasiHttpView for Context {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let (endpoint, table) = self.endpoint_and_table();
        let endpoint = endpoint.get_or_insert_with(EndpointContext::closed);
        WasiHttpCtxView { hooks: &mut endpoint.network, table, ctx: &mut endpoint.http }
    }
}

impl EndpointContext {
    /// Of a component that is given nothing; stands where no endpoint runs.
    fn closed() -> Self {
        let allowance = crate::allowance::Allowance::new(&crate::Limits::endpoint());
        let network = super::network::Network::new(GrantedHosts::default().into(), "".into(), allowance);
        Self { models: None, network, http: WasiHttpCtx::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_future_is_waited_for_inside_a_runtime_too() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let sending = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            sender.send(7)
        });
        assert_eq!(wait_for(receiver, Duration::from_secs(30)), Some(Ok(7)));
        sending.join().unwrap().unwrap();
        let began = Instant::now();
        assert_eq!(wait_for(std::future::pending::<()>(), Duration::from_millis(30)), None);
        assert!(began.elapsed() >= Duration::from_millis(30));
    }
}
