//! What every handler can reach: the loaded models, the deployed components, the jobs, the metrics and the signals.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use espalier_components::{CallObserver, Deployments, HostConfig};
use espalier_engine::{EngineConfig, EngineObserver, Generation, GenerationId, Registry, VariantSource};
use espalier_kernels::Device;
use espalier_pruning::Jobs;
use espalier_state::State;
use tokio::sync::Semaphore;

use crate::admin::runner::Runner;
use crate::api_error::{ApiError, ErrorKind};
use crate::drain::{Drain, Phase};
use crate::error::ServerError;
use crate::gate::Gate;
use crate::metrics::Metrics;
use crate::openai::shadow;
use crate::readiness::Readiness;
use crate::routing::Draws;
use crate::variants::Variants;

/// The state shared by all requests.
pub struct Application {
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    deployments: Deployments,
    variants: Arc<Variants>,
    jobs: Jobs,
    /// Where runs of recipes have their directories.
    recipes: PathBuf,
    /// Opened when what was served before is served again.
    restored: Arc<Gate>,
    drain: Drain,
    readiness: Readiness,
    draws: Draws,
    shadows: Arc<Semaphore>,
}

impl Application {
    /// Opens the state directory and starts the job queue; no model is loaded yet.
    ///
    /// # Errors
    /// A state directory that cannot be opened, or components in it that cannot be read.
    pub fn open(
        state_dir: &Path,
        device: impl Into<Device>,
        config: EngineConfig,
    ) -> Result<Arc<Self>, ServerError> {
        Self::open_with(state_dir, device, config, HostConfig::default())
    }

    /// Like [`Application::open`], with a configuration of the components' sandbox: limits, and whom to trust.
    ///
    /// # Errors
    /// The same.
    pub fn open_with(
        state_dir: &Path,
        device: impl Into<Device>,
        config: EngineConfig,
        components: HostConfig,
    ) -> Result<Arc<Self>, ServerError> {
        let metrics = Arc::new(Metrics::new()?);
        let observed = Arc::clone(&metrics);
        let registry = Arc::new(Registry::new(device, config, move |id: &GenerationId| {
            Arc::new(observed.observer(&id.model, &id.variant, id.number)) as Arc<dyn EngineObserver>
        }));
        let state = State::open(state_dir)?;
        let host = espalier_components::Host::with_state(components, &state)?;
        let observer: Arc<dyn CallObserver> = Arc::clone(&metrics) as _;
        let deployments = Deployments::observed(host, state.clone(), observer)?;
        let variants = Arc::new(Variants::open(Arc::clone(&registry), state.clone())?);
        let restored = Arc::<Gate>::default();
        // Results are loaded by their path at the next start too, which may have another working directory.
        let recipes = std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned()).join("recipes");
        let runner = Runner::new(
            Arc::clone(&registry),
            Arc::clone(&variants),
            deployments.clone(),
            Arc::clone(&metrics),
            recipes.clone(),
            Arc::clone(&restored),
        );
        let jobs = Jobs::start(state, Arc::new(runner))?;
        Ok(Arc::new(Self {
            registry,
            metrics,
            deployments,
            variants,
            jobs,
            recipes,
            restored,
            drain: Drain::default(),
            readiness: Readiness::default(),
            draws: Draws::default(),
            shadows: shadow::room(),
        }))
    }

    /// The loaded models.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The collectors.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The deployed components.
    pub fn deployments(&self) -> &Deployments {
        &self.deployments
    }

    /// What is recorded of the loaded variants.
    pub const fn variants(&self) -> &Arc<Variants> {
        &self.variants
    }

    /// The jobs.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// The directory of the run of a recipe.
    pub fn recipe_directory(&self, id: u64) -> PathBuf {
        self.recipes.join(id.to_string())
    }

    /// The drain signal.
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// What holds readiness back.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Random numbers for routing.
    pub const fn draws(&self) -> &Draws {
        &self.draws
    }

    /// Room for copies of requests.
    pub const fn shadows(&self) -> &Arc<Semaphore> {
        &self.shadows
    }

    /// Whether the server is going away.
    pub fn is_draining(&self) -> bool {
        self.drain.phase() != Phase::Serving
    }

    /// Why the server is not ready; nothing if it is.
    pub fn reasons_not_ready(&self) -> Vec<String> {
        self.readiness.reasons(&self.drain, self.registry.generations().len())
    }

    /// Loads a variant of the command line, which is not recorded. Blocks for as long as reading the checkpoint takes.
    ///
    /// # Errors
    /// Whatever is wrong with the name or the checkpoint; what was loaded before stays then.
    pub fn load(
        &self,
        model: &str,
        variant: &str,
        source: &VariantSource,
    ) -> Result<Arc<Generation>, ServerError> {
        self.registry.load(model, variant, source).map_err(|error| ServerError::Load {
            address: format!("{model}@{variant}"),
            path: source.path.clone(),
            source: Box::new(error),
        })
    }

    /// Loads the variants that an earlier host recorded and that nobody has loaded yet, then lets jobs begin. Called
    /// once, when those of the command line are loaded.
    ///
    /// # Errors
    /// A state directory that cannot be read.
    pub fn restore(&self) -> Result<(), ServerError> {
        self.variants.restore(|| !self.is_draining())?;
        self.restored.open();
        Ok(())
    }

    /// Runs `work` on a thread that may block.
    ///
    /// # Errors
    /// What `work` answers, or that it ended abnormally.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|error| Err(ApiError::internal("the request could not be worked on", &error)))
    }

    /// Refuses what is new from now on, on every listener, engine and stream.
    pub fn begin_drain(&self) {
        self.drain.drain();
        self.registry.drain();
    }

    /// An error for an endpoint that takes nothing new while draining.
    pub fn refuse_if_draining(&self) -> Result<(), ApiError> {
        if self.is_draining() {
            return Err(ApiError::new(
                ErrorKind::Unavailable,
                "the server is draining and takes nothing new",
            ));
        }
        Ok(())
    }
}
