//! A component that was compiled, checked against its world and asked who it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use espalier_state::Digest;

use crate::allowance::Allowance;
use crate::bindings::{metric, routing, scoring};
use crate::context::Context;
use crate::endpoint::EndpointPre;
use crate::guest_metrics::GuestMetrics;
use crate::host::{Host, engine_error};
use crate::identity::Identity;
use crate::instance::Instance;
use crate::{ComponentError, Limits, Probe, Unit, World, complexity, contract};

/// A component, ready to be instantiated. Clones share it.
#[derive(Clone)]
pub struct Component {
    inner: Arc<Inner>,
}

struct Inner {
    host: Host,
    digest: Digest,
    bytes: usize,
    identity: Identity,
    label: Arc<str>,
    limits: Arc<Limits>,
    allowance: Arc<Allowance>,
    metrics: Arc<GuestMetrics>,
    prepared: Prepared,
    scored_units: Vec<ScoredUnit>,
    load_time: LoadTime,
}

/// The component with its imports resolved, per world.
pub(crate) enum Prepared {
    Scoring(scoring::ScoringPolicyPre<Context>),
    Routing(routing::RequestRouterPre<Context>),
    Metric(metric::EvaluationMetricPre<Context>),
    Endpoint(Box<EndpointPre>),
}

/// A unit that a scoring policy can score, and the probes that it must see for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoredUnit {
    /// The unit.
    pub unit: Unit,
    /// What must be recorded.
    pub probes: Vec<Probe>,
    /// Whether it asks what the model loses without some units.
    pub ablation: bool,
}

/// How long a component took to get ready.
#[derive(Clone, Copy, Debug)]
pub struct LoadTime {
    /// Compiling, or reading the compiled code back.
    pub compile: Duration,
    /// Whether the code came from the state directory.
    pub cached: bool,
    /// Everything: compiling, checking, the first instance and its `describe`.
    pub total: Duration,
}

impl Component {
    pub(crate) fn load(
        host: &Host,
        label: &str,
        bytes: &[u8],
        expected: Option<World>,
    ) -> Result<Self, ComponentError> {
        let started = Instant::now();
        let limit = host.config().component_bytes;
        if bytes.len() > limit {
            return Err(ComponentError::TooLarge { component: label.to_owned(), found: bytes.len(), limit });
        }
        let digest = Digest::of(bytes);
        let (compiled, cached) = compile(host, label, bytes, digest)?;
        let compile_time = started.elapsed();

        let inner = &host.inner;
        let found = contract::of_component(&inner.engine, &compiled);
        let world = match expected {
            Some(world) => world,
            None => inner.contracts.detect(label, &found)?,
        };
        inner.contracts.check(label, &found, world)?;

        let (linker, limits) = inner.linker(world)?;
        let pre = linker.instantiate_pre(&compiled).map_err(engine_error)?;
        let prepared = match world {
            World::ScoringPolicy => scoring::ScoringPolicyPre::new(pre).map(Prepared::Scoring),
            World::RequestRouter => routing::RequestRouterPre::new(pre).map(Prepared::Routing),
            World::EvaluationMetric => metric::EvaluationMetricPre::new(pre).map(Prepared::Metric),
            World::HttpEndpoint => EndpointPre::new(pre).map(|pre| Prepared::Endpoint(Box::new(pre))),
        }
        .map_err(engine_error)?;

        let allowance = Allowance::new(limits);
        let context = Context::new(label.into(), Arc::clone(limits), Arc::clone(&allowance));
        let (identity, scored_units) = describe(host, &prepared, context, label)?;
        let load_time = LoadTime { compile: compile_time, cached, total: started.elapsed() };
        Ok(Self {
            inner: Arc::new(Inner {
                host: host.clone(),
                digest,
                bytes: bytes.len(),
                label: identity.to_string().into(),
                metrics: inner.metrics.of(&identity),
                identity,
                limits: Arc::clone(limits),
                allowance,
                prepared,
                scored_units,
                load_time,
            }),
        })
    }

    /// The SHA-256 of the component's bytes.
    pub fn digest(&self) -> Digest {
        self.inner.digest
    }

    /// The size of the component's file in bytes.
    pub fn size(&self) -> usize {
        self.inner.bytes
    }

    /// Its name, version and summary.
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// Its world.
    pub fn world(&self) -> World {
        match self.inner.prepared {
            Prepared::Scoring(_) => World::ScoringPolicy,
            Prepared::Routing(_) => World::RequestRouter,
            Prepared::Metric(_) => World::EvaluationMetric,
            Prepared::Endpoint(_) => World::HttpEndpoint,
        }
    }

    /// The units that a scoring policy scores; none for the other worlds.
    pub fn scored_units(&self) -> &[ScoredUnit] {
        &self.inner.scored_units
    }

    /// How long it took to get ready.
    pub fn load_time(&self) -> LoadTime {
        self.inner.load_time
    }

    pub(crate) fn prepared(&self) -> &Prepared {
        &self.inner.prepared
    }

    /// `name@version`.
    pub(crate) fn label(&self) -> &str {
        &self.inner.label
    }

    /// Starts a fresh instance and drops it, which is what a call costs that finds no idle one. Blocks.
    pub fn instantiate(&self) -> Result<(), ComponentError> {
        match self.prepared() {
            Prepared::Scoring(pre) => self.start(|_| (), |store| pre.instantiate(store)).map(drop),
            Prepared::Routing(pre) => self.start(|_| (), |store| pre.instantiate(store)).map(drop),
            Prepared::Metric(pre) => self.start(|_| (), |store| pre.instantiate(store)).map(drop),
            Prepared::Endpoint(pre) => pre.instantiate(self.host(), self.context()),
        }
    }

    /// The host that runs it.
    pub(crate) fn host(&self) -> &Host {
        &self.inner.host
    }

    /// What one call of it may use.
    pub(crate) fn limits(&self) -> &Arc<Limits> {
        &self.inner.limits
    }

    /// What its calls share.
    pub(crate) fn allowance(&self) -> &Arc<Allowance> {
        &self.inner.allowance
    }

    /// The context of a new instance, without inputs.
    pub(crate) fn context(&self) -> Context {
        let Inner { label, limits, allowance, metrics, .. } = &*self.inner;
        let mut context = Context::new(Arc::clone(label), Arc::clone(limits), Arc::clone(allowance));
        context.metrics = Some(Arc::clone(metrics));
        context
    }

    /// Starts an instance with a context that `fill` gives its inputs to.
    pub(crate) fn start<Bindings>(
        &self,
        fill: impl FnOnce(&mut Context),
        instantiate: impl FnOnce(&mut wasmtime::Store<Context>) -> wasmtime::Result<Bindings>,
    ) -> Result<Instance<Bindings>, ComponentError> {
        let mut context = self.context();
        fill(&mut context);
        start(&self.inner.host, context, instantiate)
    }

    /// The error for a component of another world.
    pub(crate) fn not_a(&self, expected: World) -> ComponentError {
        let found = self.world();
        ComponentError::Unsupported {
            component: self.label().to_owned(),
            problem: format!("has the world {found}, expected {expected}"),
        }
    }
}

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Component({}, {}, {})", self.label(), self.world(), self.digest())
    }
}

fn start<Bindings>(
    host: &Host,
    context: Context,
    instantiate: impl FnOnce(&mut wasmtime::Store<Context>) -> wasmtime::Result<Bindings>,
) -> Result<Instance<Bindings>, ComponentError> {
    Instance::start(&host.inner.engine, host.config(), context, instantiate)
}

/// Compiles, or takes the code that this host compiled earlier.
fn compile(
    host: &Host,
    label: &str,
    bytes: &[u8],
    digest: Digest,
) -> Result<(wasmtime::component::Component, bool), ComponentError> {
    let engine = &host.inner.engine;
    let artefacts = host.inner.artefacts.as_ref();
    if let Some(compiled) = artefacts.and_then(|artefacts| artefacts.load(engine, digest)) {
        return Ok((compiled, true));
    }
    complexity::check(label, bytes)?;
    let compiled = wasmtime::component::Component::from_binary(engine, bytes).map_err(|error| {
        ComponentError::NotAComponent { component: label.to_owned(), reason: error.root_cause().to_string() }
    })?;
    if let Some(artefacts) = artefacts {
        artefacts.store(&compiled, digest);
    }
    Ok((compiled, false))
}

/// Instantiates the component once, as a smoke test, and asks it who it is.
fn describe(
    host: &Host,
    prepared: &Prepared,
    context: Context,
    label: &str,
) -> Result<(Identity, Vec<ScoredUnit>), ComponentError> {
    match prepared {
        Prepared::Scoring(pre) => {
            let mut instance = start(host, context, |store| pre.instantiate(store))?;
            let found = instance
                .call("describe", |policy, store| policy.espalier_policy_scoring().call_describe(store))?;
            let identity = found.identity;
            let identity = Identity::parse(label, identity.name, identity.version, identity.summary)?;
            let units: Vec<ScoredUnit> = found
                .units
                .into_iter()
                .map(|unit| ScoredUnit {
                    unit: unit.unit.into(),
                    probes: unit.probes.into_iter().map(Probe::from).collect(),
                    ablation: unit.ablation,
                })
                .collect();
            if units.is_empty() {
                return Err(ComponentError::InvalidAnswer {
                    component: identity.to_string(),
                    call: "describe",
                    found: "no units".to_owned(),
                    expected: "at least one unit that the policy scores".to_owned(),
                });
            }
            Ok((identity, units))
        }
        Prepared::Routing(pre) => {
            let mut instance = start(host, context, |store| pre.instantiate(store))?;
            let found = instance
                .call("describe", |router, store| router.espalier_policy_routing().call_describe(store))?;
            Ok((Identity::parse(label, found.name, found.version, found.summary)?, Vec::new()))
        }
        Prepared::Metric(pre) => {
            let mut instance = start(host, context, |store| pre.instantiate(store))?;
            let found = instance
                .call("describe", |metric, store| metric.espalier_policy_metric().call_describe(store))?;
            Ok((Identity::parse(label, found.name, found.version, found.summary)?, Vec::new()))
        }
        Prepared::Endpoint(pre) => {
            let found = pre.describe(host, context)?;
            Ok((Identity::parse(label, found.name, found.version, found.summary)?, Vec::new()))
        }
    }
}
