//! Request routers, called in the path of every request.

use std::sync::{Mutex, PoisonError};

use crate::bindings::exports_of_routing::{Request, Setting, VariantStatus as GuestVariant};
use crate::bindings::routing::RequestRouter as Bindings;
use crate::calls::CallReport;
use crate::component::{Component, Prepared};
use crate::instance::Instance;
use crate::scoring::refusal;
use crate::{
    ComponentError, Configuration, Identity, RouteChoice, RouteRequest, VariantStatus, World, route_choice,
};

/// Idle instances that are kept. More can run at the same time; the surplus is dropped afterwards.
const IDLE_INSTANCES: usize = 8;

/// A component of the world `request-router` with its configuration. Calls may come from many threads at once: each
/// takes an idle instance or starts a fresh one (some microseconds), which is configured first. An instance that trapped
/// or was stopped is dropped.
pub struct RequestRouter {
    component: Component,
    settings: Vec<Setting>,
    report: CallReport,
    idle: Mutex<Vec<Instance<Bindings>>>,
}

impl RequestRouter {
    /// The router of a component; an error for one of another world, or where it refuses the configuration.
    pub fn new(component: Component, configuration: &Configuration) -> Result<Self, ComponentError> {
        let setting = |(key, value): (&String, &String)| Setting { key: key.clone(), value: value.clone() };
        let settings = configuration.settings().iter().map(setting).collect();
        let router = Self { component, settings, report: CallReport::none(), idle: Mutex::default() };
        let first = router.start()?;
        router.idle().push(first);
        Ok(router)
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

    /// Who answers the request. `variants` must not be empty.
    pub fn route(
        &self,
        request: &RouteRequest,
        variants: &[VariantStatus],
    ) -> Result<RouteChoice, ComponentError> {
        self.report.watch(|| self.ask(request, variants))
    }

    fn ask(&self, request: &RouteRequest, variants: &[VariantStatus]) -> Result<RouteChoice, ComponentError> {
        // Not in the match: the lock would be held while an instance starts.
        let idle = self.idle().pop();
        let mut instance = match idle {
            Some(instance) => instance,
            None => self.start()?,
        };
        let guest_request = guest_request(request);
        let guest_variants: Vec<_> = variants.iter().map(guest_variant).collect();
        let answer = instance.call("route", |router, store| {
            router.espalier_policy_routing().call_route(store, &guest_request, &guest_variants)
        })?;
        let mut idle = self.idle();
        if idle.len() < IDLE_INSTANCES {
            idle.push(instance);
        }
        drop(idle);
        let choice = answer.map_err(|message| refusal(self.component.label(), "route", &message))?;
        route_choice::checked(self.component.label(), &choice, variants.len())
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Instance<Bindings>>> {
        // Nothing can panic between taking and giving back.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fresh instance that has its configuration.
    fn start(&self) -> Result<Instance<Bindings>, ComponentError> {
        let Prepared::Routing(pre) = self.component.prepared() else {
            return Err(self.component.not_a(World::RequestRouter));
        };
        let mut instance = self.component.start(|_| (), |store| pre.instantiate(store))?;
        let answer = instance.call("configure", |router, store| {
            router.espalier_policy_routing().call_configure(store, &self.settings)
        })?;
        answer.map_err(|message| refusal(self.component.label(), "configure", &message))?;
        Ok(instance)
    }
}

fn guest_request(request: &RouteRequest) -> Request {
    Request {
        model: request.model.clone(),
        prompt_tokens: request.prompt_tokens,
        max_tokens: request.max_tokens,
        streaming: request.streaming,
        session: request.session,
        quality: request.quality,
        draw: request.draw,
    }
}

fn guest_variant(variant: &VariantStatus) -> GuestVariant {
    GuestVariant {
        name: variant.name.clone(),
        accepts: variant.accepts,
        running: variant.running,
        waiting: variant.waiting,
        kv_usage: variant.kv_usage,
        milliseconds_per_token: variant.milliseconds_per_token,
        parameters: variant.parameters,
        active_parameters: variant.active_parameters,
        weight_bytes: variant.weight_bytes,
    }
}

impl std::fmt::Debug for RequestRouter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RequestRouter({})", self.component.label())
    }
}
