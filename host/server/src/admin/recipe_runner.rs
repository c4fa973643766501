//! How the run of a recipe is done in a running host: with the components that were active when it was asked for.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use espalier_components::Deployments;
use espalier_engine::VariantSource;
use espalier_kernels::Device;
use espalier_pruning::{
    JobReporter, PruningError, Recipe, RecipeComponents, RecipeJob, RunEvent, RunRequest, RunStatus,
    RunSummary, run_recipe,
};
use serde_json::{Value, json};

use crate::metrics::Metrics;
use crate::variants::Variants;

type Failure = Box<dyn Error + Send + Sync>;

/// What a run works with.
pub(super) struct RecipeRunner<'a> {
    pub(super) device: &'a Device,
    pub(super) variants: &'a Variants,
    pub(super) deployments: &'a Deployments,
    pub(super) metrics: &'a Metrics,
}

impl RecipeRunner<'_> {
    /// Begins the run in `directory`, or goes on with it; its summary.
    pub(super) fn run(
        &self,
        id: u64,
        job: &RecipeJob,
        directory: &Path,
        reporter: &mut JobReporter<'_>,
    ) -> Result<Value, Failure> {
        let recipe = job.recipe()?;
        let request = RunRequest {
            recipe: &recipe,
            components: &self.components(id, job, &recipe)?,
            model: &job.path,
            device: self.device.clone(),
            out: directory,
            resume: true,
            cancellation: reporter.cancellation().clone(),
        };
        if let Some(parent) = directory.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let (mut begun, mut known) = (Instant::now(), None);
        let record = run_recipe(&request, &mut |event| match event {
            RunEvent::Progress(progress) => reporter.stage(&progress),
            RunEvent::Recorded(record) => {
                let further = known.is_some_and(|stages| record.stages.len() > stages);
                if let (true, Some(stage)) = (further, record.stages.last()) {
                    self.metrics.recipe_stage(&job.recipe, &stage.name, begun.elapsed());
                }
                (begun, known) = (Instant::now(), Some(record.stages.len()));
                reporter.result(&json!(RunSummary::of(record, directory)), further);
                true
            }
        })?;
        let summary = RunSummary::of(&record, directory);
        if let (RunStatus::Stopped, Some(stage)) = (record.status, record.stages.last()) {
            let number = record.stages.len();
            return Err(format!(
                "a gate stopped the run after stage {number} ({}); the last good model is kept",
                stage.name
            )
            .into());
        }
        let mut result = json!(summary);
        if let (Some(variant), Some(model), Value::Object(fields)) =
            (&job.load_as, &summary.model, &mut result)
        {
            let loaded = self.variants.load(&job.model, variant, &VariantSource::new(&model.path))?;
            let loaded = json!({"variant": loaded.id().variant, "generation": loaded.id().number});
            fields.insert("loaded".to_owned(), loaded);
        }
        Ok(result)
    }

    fn components(
        &self,
        id: u64,
        job: &RecipeJob,
        recipe: &Recipe,
    ) -> Result<RecipeComponents, PruningError> {
        let pinned = |slot: &str| {
            job.pinned(slot).map(|pinned| pinned.digest).ok_or_else(|| PruningError::JobRecord {
                id,
                reason: format!("it has no component for {slot}"),
            })
        };
        RecipeComponents::find(
            recipe,
            |name| {
                let digest = pinned(&format!("scoring/{name}"))?;
                Ok((*self.deployments.pinned_scoring_policy(name, digest)?).clone())
            },
            |name| {
                let digest = pinned(&format!("metric/{name}"))?;
                Ok((*self.deployments.pinned_evaluation_metric(name, digest)?).clone())
            },
        )
    }
}
