//! Which components a host has, and which of them is active where.
//!
//! A component is deployed once per content and activated in a slot by compare-and-set. Everything is in the state
//! directory before a call returns, each change in one transaction, so a kill at any point leaves the last state that
//! was reached. Calls that are under way when another component is activated finish on the one that they started on:
//! what this module hands out stays valid for as long as its holder keeps it.

mod activations;
mod canary;
mod folder;
mod records;
mod share;
mod slot;
mod upload;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use espalier_state::{Digest, Revision, State};
use serde::Serialize;

use self::activations::Wanted;
pub use self::activations::{Activation, Canary};
pub use self::folder::{ComponentFolder, Taken};
pub use self::records::{ComponentRecord, Place};
pub use self::share::CallShare;
use self::share::Dealer;
pub use self::slot::Slot;
pub use self::upload::Upload;
use crate::artefacts::Artefacts;
use crate::calls::{CallObserver, CallReport};
use crate::lookup::find_built_in;
use crate::{
    Component, ComponentError, ComponentMetrics, EvaluationMetric, Host, HttpEndpoint, Limits, LoadTime,
    Provision, RequestRouter, ScoringPolicy, World, read_component,
};

/// The deployed components of one state directory. Clones share them.
#[derive(Clone)]
pub struct Deployments {
    inner: Arc<Inner>,
}

struct Inner {
    host: Host,
    state: State,
    observer: Arc<dyn CallObserver>,
    active: RwLock<BTreeMap<Slot, Active>>,
    /// Components that were loaded in this process, by digest.
    loaded: Mutex<HashMap<Digest, Component>>,
    /// Held while blobs and their records change together.
    storing: Mutex<()>,
}

/// A slot's activation with what runs because of it.
struct Active {
    activation: Activation,
    running: Result<Running, String>,
    canary: Option<Result<Running, String>>,
    dealer: Dealer,
}

impl Active {
    /// What the next call goes to. A canary that cannot be used gets no calls.
    fn next(&self) -> &Result<Running, String> {
        match (&self.canary, &self.activation.canary) {
            (Some(running @ Ok(_)), Some(canary)) if self.dealer.is_canarys(canary.weight) => running,
            _ => &self.running,
        }
    }
}

#[derive(Clone)]
enum Running {
    Router(Arc<RequestRouter>),
    Scoring(Arc<ScoringPolicy>),
    Metric(Arc<EvaluationMetric>),
    Endpoint(Arc<HttpEndpoint>),
}

/// What a deployment did.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// The component.
    pub record: ComponentRecord,
    /// Whether it is new; deploying the same content again changes nothing.
    pub created: bool,
    /// How long it took to get ready.
    pub load_time: LoadTime,
}

/// A slot with what is active in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SlotStatus {
    /// The activation in force.
    #[serde(flatten)]
    pub activation: Activation,
    /// Why the component cannot be used, if it could not be loaded at the host's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The same of the canary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary_problem: Option<String>,
}

impl Deployments {
    /// Opens the deployments of a state directory and loads what is active. A component that cannot be loaded leaves
    /// its slot unusable, which [`Deployments::slots`] shows; the others are not affected.
    pub fn open(host: Host, state: State) -> Result<Self, ComponentError> {
        Self::observed(host, state, Arc::new(()))
    }

    /// Like [`Deployments::open`], and tells `observer` of every call into what is handed out here.
    pub fn observed(
        host: Host,
        state: State,
        observer: Arc<dyn CallObserver>,
    ) -> Result<Self, ComponentError> {
        state.migrate("deployments", &records::TABLES)?;
        let current = state.with_connection(|connection| activations::current_activations(connection))?;
        let inner = Inner {
            host,
            state,
            observer,
            active: RwLock::default(),
            loaded: Mutex::default(),
            storing: Mutex::default(),
        };
        let deployments = Self { inner: Arc::new(inner) };
        for activation in current {
            deployments.restore(activation);
        }
        Ok(deployments)
    }

    /// Puts a recorded activation in force as far as its components can be used.
    fn restore(&self, activation: Activation) {
        let slot = &activation.slot;
        let start = |digest, label: &str, provision: Provision| {
            let loaded = self.load_deployed(digest, label);
            let running = loaded.and_then(|component| self.start(slot, component, &provision));
            running.map_err(|error| {
                tracing::error!(%slot, component = label, "the component cannot be used: {error}");
                error.to_string()
            })
        };
        let running = start(activation.digest, &activation.component, activation.provision());
        let canary = activation.canary.as_ref();
        let canary = canary.map(|canary| start(canary.digest, &canary.component, canary.provision()));
        self.put_in_force(activation, running, canary);
    }

    /// Deploys a component that nobody signed; see [`Deployments::deploy_upload`].
    pub fn deploy(
        &self,
        label: &str,
        bytes: &[u8],
        expected: Option<World>,
    ) -> Result<Deployed, ComponentError> {
        self.deploy_upload(&Upload { label, bytes, signature: None }, expected)
    }

    /// Fails unless the host takes components from whoever signed this one. Compiles nothing.
    pub fn admit(&self, upload: &Upload<'_>) -> Result<(), ComponentError> {
        self.inner.host.admit(upload.label, Digest::of(upload.bytes), upload.signature)
    }

    /// Checks who signed a component, then compiles, checks, describes and stores it.
    pub fn deploy_upload(
        &self,
        upload: &Upload<'_>,
        expected: Option<World>,
    ) -> Result<Deployed, ComponentError> {
        self.admit(upload)?;
        let Upload { label, bytes, signature } = *upload;
        let component = self.load(label, bytes, expected)?;
        let storing = self.inner.storing.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.state.blobs().put(bytes)?;
        let created = self
            .inner
            .state
            .write(|transaction| records::insert_component(transaction, &component, signature))?;
        drop(storing);
        let record = self.inspect(&component.digest().to_string())?;
        if created {
            tracing::info!(component = %record.label(), digest = %record.digest, "deployed");
        }
        Ok(Deployed { record, created, load_time: component.load_time() })
    }

    /// Makes a deployed component the active one of a slot and gives it nothing; see [`Deployments::configure`].
    pub fn activate(
        &self,
        slot: &Slot,
        reference: &str,
        expected: Option<Revision>,
    ) -> Result<Activation, ComponentError> {
        self.configure(slot, reference, Provision::default(), expected)
    }

    /// Makes a deployed component the active one of a slot with a configuration and grants, and ends a canary. With `expected`, only
    /// if the slot is at that revision (0 for a slot that never had a component).
    pub fn configure(
        &self,
        slot: &Slot,
        reference: &str,
        provision: impl Into<Provision>,
        expected: Option<Revision>,
    ) -> Result<Activation, ComponentError> {
        let component = self.component_for(slot, reference)?;
        let provision = provision.into();
        // Ready before it is recorded: what is recorded as active has been seen to work.
        let running = self.start(slot, component.clone(), &provision)?;
        let wanted = Wanted {
            slot,
            digest: component.digest(),
            component: component.label(),
            provision: &provision,
            canary: None,
        };
        let activation =
            self.inner.state.write(|transaction| activations::insert(transaction, &wanted, expected))?;
        tracing::info!(%slot, component = %activation.component, revision = %activation.revision, "activated");
        self.put_in_force(activation.clone(), Ok(running), None);
        Ok(activation)
    }

    /// Checks who signed a component, then starts it with what it is given as it would run in a slot, and changes nothing.
    pub fn try_out(
        &self,
        upload: &Upload<'_>,
        slot: Option<&Slot>,
        provision: impl Into<Provision>,
    ) -> Result<(), ComponentError> {
        self.admit(upload)?;
        let component = self.load(upload.label, upload.bytes, slot.map(Slot::world))?;
        let default = Slot::default_for(component.world(), &component.identity().name);
        self.start(slot.unwrap_or(&default), component, &provision.into()).map(|_| ())
    }

    /// A deployed component of the slot's world.
    fn component_for(&self, slot: &Slot, reference: &str) -> Result<Component, ComponentError> {
        let record = self.inspect(reference)?;
        if record.world != slot.world() {
            return Err(ComponentError::WrongSlot {
                component: record.label(),
                found: record.world,
                slot: slot.to_string(),
                expected: slot.world(),
            });
        }
        self.load_deployed(record.digest, &record.label())
    }

    /// Goes back: activates once more, with what it was given, what was active at the revision `to`. Without `to` that is
    /// what is active already if the slot has a canary, which so ends, else what was active before.
    pub fn roll_back(
        &self,
        slot: &Slot,
        to: Option<Revision>,
        expected: Option<Revision>,
    ) -> Result<Activation, ComponentError> {
        let history = self.history(slot)?;
        let Some(newest) = history.first() else {
            return Err(ComponentError::SlotEmpty(slot.to_string()));
        };
        let target = match to {
            Some(revision) => history.iter().find(|activation| activation.revision == revision),
            None if newest.canary.is_some() => Some(newest),
            None => history.iter().find(|activation| !activation.is_like(newest)),
        };
        let target = target.ok_or_else(|| ComponentError::NothingEarlier(slot.to_string()))?;
        // The decision rests on the history that was read, so it holds only for that revision.
        let expected = Some(expected.unwrap_or(newest.revision));
        self.configure(slot, &target.digest.to_string(), target.provision(), expected)
    }

    /// All deployed components.
    pub fn components(&self) -> Result<Vec<ComponentRecord>, ComponentError> {
        let mut records =
            self.inner.state.with_connection(|connection| records::all_components(connection))?;
        records.iter_mut().for_each(|record| self.name_signer(record));
        Ok(records)
    }

    /// One deployed component: `name@version`, a name with a single version, a digest, or its first eight or more
    /// digits.
    pub fn inspect(&self, reference: &str) -> Result<ComponentRecord, ComponentError> {
        let mut record =
            self.inner.state.with_connection(|connection| records::find_component(connection, reference))?;
        self.name_signer(&mut record);
        Ok(record)
    }

    /// What the loaded components have counted and observed themselves.
    pub fn metrics_of_guests(&self) -> Vec<ComponentMetrics> {
        self.inner.host.metrics_of_guests()
    }

    /// The file of a deployed component.
    pub fn file(&self, reference: &str) -> Result<Vec<u8>, ComponentError> {
        Ok(self.inner.state.blobs().get(self.inspect(reference)?.digest)?)
    }

    /// The limits that hold for components of a world.
    pub fn limits(&self, world: World) -> &Limits {
        self.inner.host.config().limits(world)
    }

    fn name_signer(&self, record: &mut ComponentRecord) {
        let keys = self.inner.host.config().trusted_keys.as_ref();
        let name = keys.zip(record.signature.as_ref()).and_then(|(keys, by)| keys.name_of(by.key()));
        record.signer = name.map(str::to_owned);
    }

    /// Every slot that has a component.
    pub fn slots(&self) -> Vec<SlotStatus> {
        let status = |active: &Active| SlotStatus {
            activation: active.activation.clone(),
            problem: active.running.as_ref().err().cloned(),
            canary_problem: active.canary.as_ref().and_then(|canary| canary.as_ref().err().cloned()),
        };
        self.active().values().map(status).collect()
    }

    /// All activations of a slot, newest first.
    pub fn history(&self, slot: &Slot) -> Result<Vec<Activation>, ComponentError> {
        self.inner.state.with_connection(|connection| activations::history(connection, slot))
    }

    /// Removes a component that is neither active nor a canary anywhere, with its file and its compiled code.
    pub fn remove(&self, reference: &str) -> Result<ComponentRecord, ComponentError> {
        let _storing = self.inner.storing.lock().unwrap_or_else(PoisonError::into_inner);
        let record = self.inner.state.write(|transaction| {
            let record = records::find_component(transaction, reference)?;
            if !record.places.is_empty() {
                let slots: Vec<_> = record.places.iter().map(|place| place.slot.to_string()).collect();
                return Err(ComponentError::InUse { component: record.label(), slots: slots.join(", ") });
            }
            records::delete_component(transaction, record.digest)?;
            Ok(record)
        })?;
        self.loaded().remove(&record.digest);
        Artefacts::remove(&self.inner.state, record.digest)?;
        self.inner.state.blobs().remove(record.digest)?;
        tracing::info!(component = %record.label(), "removed");
        Ok(record)
    }

    /// The router for the next request, if there is one that can be used: the active one, or its canary in turn.
    pub fn router(&self) -> Option<Arc<RequestRouter>> {
        match self.active().get(&Slot::Router).map(Active::next) {
            Some(Ok(Running::Router(router))) => Some(Arc::clone(router)),
            _ => None,
        }
    }

    /// The scoring policy of this name: the active one of the slot `scoring/NAME`, else the built-in one.
    pub fn scoring_policy(&self, name: &str) -> Result<Arc<ScoringPolicy>, ComponentError> {
        match self.running_or_built_in(Slot::Scoring(name.to_owned()), name)? {
            Running::Scoring(policy) => Ok(policy),
            _ => Err(ComponentError::NotDeployed(name.to_owned())),
        }
    }

    /// The metric of this name: the active one of the slot `metric/NAME`, else the built-in one.
    pub fn evaluation_metric(&self, name: &str) -> Result<Arc<EvaluationMetric>, ComponentError> {
        match self.running_or_built_in(Slot::Metric(name.to_owned()), name)? {
            Running::Metric(metric) => Ok(metric),
            _ => Err(ComponentError::NotDeployed(name.to_owned())),
        }
    }

    /// The endpoint under the path of this name, if there is one: the active one of the slot `ext/NAME`, or its canary in
    /// turn.
    pub fn endpoint(&self, name: &str) -> Result<Option<Arc<HttpEndpoint>>, ComponentError> {
        match self.running(&Slot::Endpoint(name.to_owned()))? {
            Some(Running::Endpoint(endpoint)) => Ok(Some(endpoint)),
            _ => Ok(None),
        }
    }

    /// One version of the scoring policy of this name, whatever is active in its slot: one that is deployed, or the
    /// built-in one.
    pub fn pinned_scoring_policy(
        &self,
        name: &str,
        digest: Digest,
    ) -> Result<Arc<ScoringPolicy>, ComponentError> {
        match self.pinned(Slot::Scoring(name.to_owned()), name, digest)? {
            Running::Scoring(policy) => Ok(policy),
            _ => Err(ComponentError::NotDeployed(name.to_owned())),
        }
    }

    /// The same of a metric.
    pub fn pinned_evaluation_metric(
        &self,
        name: &str,
        digest: Digest,
    ) -> Result<Arc<EvaluationMetric>, ComponentError> {
        match self.pinned(Slot::Metric(name.to_owned()), name, digest)? {
            Running::Metric(metric) => Ok(metric),
            _ => Err(ComponentError::NotDeployed(name.to_owned())),
        }
    }

    fn pinned(&self, slot: Slot, name: &str, digest: Digest) -> Result<Running, ComponentError> {
        let component = self.load_deployed(digest, name).or_else(|error| {
            let built_in = self.load_built_in(name, slot.world()).ok();
            built_in.filter(|component| component.digest() == digest).ok_or(error)
        })?;
        self.start(&slot, component, &Provision::default())
    }

    fn running_or_built_in(&self, slot: Slot, name: &str) -> Result<Running, ComponentError> {
        match self.running(&slot)? {
            Some(running) => Ok(running),
            None => self.start(&slot, self.load_built_in(name, slot.world())?, &Provision::default()),
        }
    }

    fn running(&self, slot: &Slot) -> Result<Option<Running>, ComponentError> {
        let active = self.active();
        let Some(active) = active.get(slot) else { return Ok(None) };
        match active.next() {
            Ok(running) => Ok(Some(running.clone())),
            Err(problem) => Err(ComponentError::Unsupported {
                component: active.activation.component.clone(),
                problem: format!("is active in {slot} and could not be loaded: {problem}"),
            }),
        }
    }

    /// What a component does in a slot, with its calls reported.
    fn start(
        &self,
        slot: &Slot,
        component: Component,
        provision: &Provision,
    ) -> Result<Running, ComponentError> {
        let observer = Arc::clone(&self.inner.observer);
        let report = CallReport::to(observer, component.identity().clone(), slot.clone());
        provision.check(component.identity(), component.world())?;
        Ok(match slot {
            Slot::Router => Running::Router(Arc::new(
                RequestRouter::new(component, &provision.configuration)?.reporting(report),
            )),
            Slot::Scoring(_) => Running::Scoring(Arc::new(ScoringPolicy::new(component)?.reporting(report))),
            Slot::Metric(_) => Running::Metric(Arc::new(EvaluationMetric::new(component)?.reporting(report))),
            Slot::Endpoint(_) => {
                let granted = provision.granted_hosts.clone();
                Running::Endpoint(Arc::new(HttpEndpoint::new(component, granted)?.reporting(report)))
            }
        })
    }

    fn put_in_force(
        &self,
        activation: Activation,
        running: Result<Running, String>,
        canary: Option<Result<Running, String>>,
    ) {
        let mut active = self.inner.active.write().unwrap_or_else(PoisonError::into_inner);
        // Of two activations that were recorded at almost the same time, the later one stays.
        let newer =
            active.get(&activation.slot).is_none_or(|old| old.activation.revision < activation.revision);
        if newer {
            let slot = activation.slot.clone();
            active.insert(slot, Active { activation, running, canary, dealer: Dealer::default() });
        }
    }

    /// Whoever signed it must be trusted still: a key that was taken off the list ends the use of what it signed.
    fn load_deployed(&self, digest: Digest, label: &str) -> Result<Component, ComponentError> {
        if self.inner.host.config().trusted_keys.is_some() {
            let record = self.inspect(&digest.to_string())?;
            self.inner.host.admit(label, digest, record.signature.as_ref())?;
        }
        if let Some(component) = self.loaded().get(&digest) {
            return Ok(component.clone());
        }
        let bytes = self.inner.state.blobs().get(digest)?;
        self.load(label, &bytes, None)
    }

    fn load_built_in(&self, name: &str, world: World) -> Result<Component, ComponentError> {
        let path = find_built_in(name)?;
        self.load(&path.display().to_string(), &read_component(&path)?, Some(world))
    }

    fn load(&self, label: &str, bytes: &[u8], expected: Option<World>) -> Result<Component, ComponentError> {
        let known = self.loaded().get(&Digest::of(bytes)).cloned();
        if let Some(component) =
            known.filter(|component| expected.is_none_or(|world| component.world() == world))
        {
            return Ok(component);
        }
        // Not under the lock: compiling takes long, and doing it twice does no harm.
        let component = self.inner.host.load(label, bytes, expected)?;
        self.loaded().insert(component.digest(), component.clone());
        Ok(component)
    }

    fn active(&self) -> RwLockReadGuard<'_, BTreeMap<Slot, Active>> {
        self.inner.active.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn loaded(&self) -> MutexGuard<'_, HashMap<Digest, Component>> {
        self.inner.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
