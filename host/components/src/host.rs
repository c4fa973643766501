//! The sandbox that runs components: engine, clock, linkers and limits.

use std::sync::Arc;

use espalier_state::Digest;
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::artefacts::Artefacts;
use crate::component::Component;
use crate::context::Context;
use crate::contract::Contracts;
use crate::guest_metrics::{ComponentMetrics, MetricsOfGuests};
use crate::ticker::Ticker;
use crate::{ComponentError, HostConfig, Limits, Signature, World, imports};

/// The stack of a call that can wait, beside what its WebAssembly code has: for the host functions that it calls.
const HOST_STACK_BYTES: usize = 1 << 20;
/// The address space that every pooled linear memory reserves, so that no bounds checks are needed: all that 32 bits
/// can address.
const MEMORY_RESERVATION: u64 = 1 << 32;

/// Runs components. Clones share everything; the clock's thread ends with the last clone and the last component.
#[derive(Clone)]
pub struct Host {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) config: HostConfig,
    pub(crate) contracts: Contracts,
    pub(crate) artefacts: Option<Artefacts>,
    pub(crate) metrics: MetricsOfGuests,
    linkers: Vec<(World, Linker<Context>, Arc<Limits>)>,
    _ticker: Ticker,
}

impl Host {
    /// Sets up the engine and starts its clock.
    pub fn new(config: HostConfig) -> Result<Self, ComponentError> {
        Self::build(config, None)
    }

    /// Like [`Host::new`], and keeps compiled code in the state directory, so that a component is compiled once per
    /// version of the engine.
    pub fn with_state(config: HostConfig, state: &espalier_state::State) -> Result<Self, ComponentError> {
        Self::build(config, Some(state))
    }

    fn build(config: HostConfig, state: Option<&espalier_state::State>) -> Result<Self, ComponentError> {
        let engine = start_engine(&config)?;
        let artefacts = state.map(|state| Artefacts::open(state, &engine)).transpose()?;
        let mut linkers = Vec::new();
        for world in World::ALL {
            let mut linker = Linker::new(&engine);
            imports::link(world, &mut linker).map_err(engine_error)?;
            linkers.push((world, linker, Arc::new(config.limits(world).clone())));
        }
        let ticker = Ticker::start(&engine, config.tick)?;
        let (contracts, metrics) = (Contracts::new(), MetricsOfGuests::default());
        Ok(Self {
            inner: Arc::new(Inner {
                engine,
                config,
                contracts,
                artefacts,
                metrics,
                linkers,
                _ticker: ticker,
            }),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &HostConfig {
        &self.inner.config
    }

    /// What the loaded components have counted and observed themselves.
    pub fn metrics_of_guests(&self) -> Vec<ComponentMetrics> {
        self.inner.metrics.snapshot()
    }

    /// Fails unless the host takes components from whoever signed this one. Compiles nothing. A signature must be
    /// genuine even where the host has no list of trusted keys.
    pub fn admit(
        &self,
        label: &str,
        digest: Digest,
        signature: Option<&Signature>,
    ) -> Result<(), ComponentError> {
        match (&self.inner.config.trusted_keys, signature) {
            (Some(keys), signature) => keys.check(label, digest, signature),
            (None, Some(signature)) => signature.check(label, digest),
            (None, None) => Ok(()),
        }
    }

    /// Compiles a component, checks it against its world (the one that it exports, or `expected`), instantiates it
    /// once and asks it who it is. `label` names it in errors until then.
    pub fn load(
        &self,
        label: &str,
        bytes: &[u8],
        expected: Option<World>,
    ) -> Result<Component, ComponentError> {
        Component::load(self, label, bytes, expected)
    }
}

impl Inner {
    pub(crate) fn linker(&self, world: World) -> Result<(&Linker<Context>, &Arc<Limits>), ComponentError> {
        let found = self.linkers.iter().find(|(of, _, _)| *of == world);
        found
            .map(|(_, linker, limits)| (linker, limits))
            .ok_or_else(|| ComponentError::Engine(format!("there is no linker for the world {world}")))
    }
}

/// An engine with pooled instances, or with ordinary ones where the system does not grant that much address space.
fn start_engine(config: &HostConfig) -> Result<Engine, ComponentError> {
    let pooled = Engine::new(engine_config(config).allocation_strategy(pooling(config)));
    match pooled {
        Ok(engine) => Ok(engine),
        Err(error) => {
            tracing::info!("instances are not pooled: {error:#}");
            Engine::new(&engine_config(config)).map_err(engine_error)
        }
    }
}

fn engine_config(config: &HostConfig) -> Config {
    let mut engine = Config::new();
    engine
        .wasm_component_model(true)
        .epoch_interruption(true)
        .max_wasm_stack(config.stack_bytes)
        .async_stack_size(config.stack_bytes.saturating_add(HOST_STACK_BYTES))
        .memory_reservation(MEMORY_RESERVATION);
    engine
}

fn pooling(config: &HostConfig) -> InstanceAllocationStrategy {
    let all = [&config.router, &config.scoring, &config.metric, &config.endpoint];
    let most = |field: fn(&Limits) -> usize| all.iter().map(|limits| field(limits)).max().unwrap_or(0);
    let mut pool = PoolingAllocationConfig::new();
    let count = config.pooled_instances;
    pool.total_component_instances(count)
        .total_core_instances(count.saturating_mul(8))
        .total_memories(count)
        .total_tables(count.saturating_mul(4))
        .total_stacks(count)
        .max_memories_per_module(1)
        .max_memory_size(most(|limits| limits.memory_bytes))
        .table_elements(most(|limits| limits.table_elements))
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20);
    InstanceAllocationStrategy::Pooling(pool)
}

pub(crate) fn engine_error(error: wasmtime::Error) -> ComponentError {
    ComponentError::Engine(format!("{error:#}"))
}
