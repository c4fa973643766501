//! How a job is done in a running host: on the variants that it serves, with the components that it has active.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use espalier_components::Deployments;
use espalier_engine::{Registry, VariantSource};
use espalier_evaluation::{EvaluationRequest, Step, Subject, TimingRequest, evaluate};
use espalier_model::Checkpoint;
use espalier_pruning::{
    Aim, Allocation, Derivation, EvaluateJob, Job, JobReporter, JobRequest, JobRunner, ModelSource, Phase,
    Progress, PruneJob, PruneRequest, prune,
};
use serde_json::{Value, json};

use super::recipe_runner::RecipeRunner;
use crate::gate::Gate;
use crate::metrics::Metrics;
use crate::variants::Variants;

/// How often a job that waits for the host's start looks whether it was cancelled.
const READY_INTERVAL: Duration = Duration::from_millis(500);

type Failure = Box<dyn Error + Send + Sync>;

/// Runs jobs one at a time, beside the requests.
pub struct Runner {
    registry: Arc<Registry>,
    variants: Arc<Variants>,
    deployments: Deployments,
    metrics: Arc<Metrics>,
    /// Where runs of recipes have their directories.
    recipes: PathBuf,
    /// Open when the models are loaded: a job that waited for the host's start needs them.
    ready: Arc<Gate>,
}

impl Runner {
    /// A runner over the loaded models and the deployed components.
    pub(crate) const fn new(
        registry: Arc<Registry>,
        variants: Arc<Variants>,
        deployments: Deployments,
        metrics: Arc<Metrics>,
        recipes: PathBuf,
        ready: Arc<Gate>,
    ) -> Self {
        Self { registry, variants, deployments, metrics, recipes, ready }
    }

    fn prune(&self, job: &PruneJob, progress: &mut dyn Progress) -> Result<Value, Failure> {
        // What the job names was there when it was submitted; it may have gone since.
        let generation = self.registry.variant(&job.model, &job.variant)?;
        let policy = self.deployments.scoring_policy(&job.policy)?;
        let request = PruneRequest {
            units: job.units.clone(),
            aim: Aim::Target(job.target()),
            allocation: Allocation::default(),
            protected: Vec::new(),
            constraints: job.constraints,
            storage: job.dtype,
            calibration_files: job.calibration.clone(),
            calibration: job.calibration_request(),
            refit: job.refit,
        };
        let checkpoint = Arc::new(Checkpoint::open(generation.path())?);
        let model = ModelSource::Loaded(generation.model());
        let mut planned = |_: &Derivation| Ok(());
        let plan = prune(&checkpoint, &model, &[&policy], &request, &job.out, &mut planned, progress)?.plan;
        let loaded = match &job.load_as {
            Some(variant) => Some(self.variants.load(&job.model, variant, &VariantSource::new(&job.out))?),
            None => None,
        };
        Ok(json!({
            "out": job.out,
            "policy": policy.identity().to_string(),
            "before": plan.before,
            "after": plan.after,
            "loaded": loaded.map(|loaded| {
                json!({"variant": loaded.id().variant, "generation": loaded.id().number})
            }),
        }))
    }

    fn evaluate(&self, job: &EvaluateJob, progress: &mut dyn Progress) -> Result<Value, Failure> {
        let subject = |variant: &str| -> Result<Subject, Failure> {
            let generation = self.registry.variant(&job.model, variant)?;
            Ok(Subject { name: format!("{}@{variant}", job.model), path: generation.path().to_owned() })
        };
        let baseline = job.baseline.as_deref().map(subject).transpose()?;
        let measured = subject(&job.variant)?;
        let metrics = job
            .metrics
            .iter()
            .map(|name| self.deployments.evaluation_metric(name).map(|metric| (*metric).clone()))
            .collect::<Result<Vec<_>, _>>()?;
        let request = EvaluationRequest {
            data: job.data.clone(),
            max_tokens: job.max_tokens,
            answer_tokens: EvaluationRequest::ANSWER_TOKENS,
            prompts: Vec::new(),
            timing: Some(TimingRequest::default()),
        };
        let mut step =
            |step: Step<'_>| progress.report(Phase::Evaluate, step.done, step.total.unwrap_or_default());
        let report =
            evaluate(self.registry.device(), baseline.as_ref(), &[measured], &metrics, &request, &mut step)?;
        Ok(serde_json::to_value(report)?)
    }
}

impl JobRunner for Runner {
    fn run(&self, job: &Job, progress: &mut JobReporter<'_>) -> Result<Value, Failure> {
        while !self.ready.wait(READY_INTERVAL) {
            if !progress.report(Phase::Load, 0, 1) {
                return Err("the job was cancelled before the host's models were loaded".into());
            }
        }
        match &job.request {
            JobRequest::Prune(request) => self.prune(request, progress),
            JobRequest::Evaluate(request) => self.evaluate(request, progress),
            JobRequest::Recipe(run) => {
                let runner = RecipeRunner {
                    device: self.registry.device(),
                    variants: &self.variants,
                    deployments: &self.deployments,
                    metrics: &self.metrics,
                };
                runner.run(job.id, run, &self.recipes.join(job.id.to_string()), progress)
            }
            other => Err(format!("jobs of the kind {} cannot be run by this host", other.kind()).into()),
        }
    }
}
