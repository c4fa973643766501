//! The router's export called with nothing around it but wasmtime: no deadline, no limits, no checks of the answer.

use std::time::Duration;

use anyhow::{Result, anyhow};
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Engine, Store};

use self::bindings::RequestRouter;
use self::bindings::espalier::kernels::telemetry;
use self::bindings::exports::espalier::policy::routing::{Request, VariantStatus};
use crate::commands::bench::measure::time_each;

mod bindings {
    wasmtime::component::bindgen!({
        world: "espalier:policy/request-router",
        path: ["../../wit/kernels", "../../wit/policy"],
    });
}

/// What the guest may call, none of which does anything.
struct Silent;

impl telemetry::Host for Silent {
    fn log(&mut self, _: telemetry::Level, _: String) {}

    fn count(&mut self, _: String, _: u64) {}

    fn observe(&mut self, _: String, _: f64) {}
}

impl bindings::espalier::policy::types::Host for Silent {}

/// Times `calls` calls of `route` in one instance.
pub(super) fn time_calls(component: &[u8], calls: usize) -> Result<Vec<Duration>> {
    let (router, mut store) = instance(component).map_err(|error| anyhow!("{error:#}"))?;
    let routing = router.espalier_policy_routing();
    let (request, variants) = (request(), [variant("a"), variant("b")]);
    time_each(calls, || {
        let answer = routing.call_route(&mut store, &request, &variants);
        answer.map_err(|error| anyhow!("{error:#}"))?.map_err(|refusal| anyhow!(refusal))?;
        Ok(())
    })
}

fn instance(component: &[u8]) -> wasmtime::Result<(RequestRouter, Store<Silent>)> {
    let engine = Engine::new(&Config::new())?;
    let component = Component::from_binary(&engine, component)?;
    let mut linker = Linker::new(&engine);
    RequestRouter::add_to_linker::<_, HasSelf<Silent>>(&mut linker, |silent| silent)?;
    let mut store = Store::new(&engine, Silent);
    let router = RequestRouter::instantiate(&mut store, &component, &linker)?;
    let configured = router.espalier_policy_routing().call_configure(&mut store, &[])?;
    configured.map_err(wasmtime::Error::msg)?;
    Ok((router, store))
}

fn request() -> Request {
    Request {
        model: "tiny".to_owned(),
        prompt_tokens: 100,
        max_tokens: 16,
        streaming: false,
        session: None,
        quality: None,
        draw: 7,
    }
}

fn variant(name: &str) -> VariantStatus {
    VariantStatus {
        name: name.to_owned(),
        accepts: true,
        running: 0,
        waiting: 0,
        kv_usage: 0.0,
        milliseconds_per_token: None,
        parameters: 0,
        active_parameters: 0,
        weight_bytes: 0,
    }
}
