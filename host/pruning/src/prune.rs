//! The whole way from a model and a policy to a smaller checkpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use espalier_components::{ScoringPolicy, Unit};
use espalier_kernels::Device;
use espalier_model::{Checkpoint, Model};

use crate::calibration::{Calibration, CalibrationRequest};
use crate::error::PruningError;
use crate::plan::{Constraints, Plan, PlanRequest, PolicyReference, Target, plan, units};
use crate::policy::{check_probes, score_units, score_without_text};
use crate::progress::{Phase, Progress, step};
use crate::refit::{Refit, RefitRequest, refit};
use crate::storage::StorageType;
use crate::surgery::surgery_with;

/// What a pruning is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct PruneRequest {
    /// The kinds that may go; those with a count in the target need not be named again.
    pub units: Vec<Unit>,
    /// What is to stay.
    pub target: Target,
    /// What else must hold.
    pub constraints: Constraints,
    /// The number format of the new checkpoint.
    pub storage: StorageType,
    /// Calibration texts.
    pub calibration_files: Vec<PathBuf>,
    /// How much of them; the seed is the policy's too.
    pub calibration: CalibrationRequest,
    /// Whether and how the projections behind what goes are fitted anew, on the same text.
    pub refit: Option<RefitRequest>,
}

/// Where the model comes from, should the policy want to see it at work.
#[derive(Clone)]
pub enum ModelSource<'a> {
    /// The loaded form of the checkpoint.
    Loaded(&'a Arc<Model>),
    /// To be loaded there.
    Load(Device),
}

impl ModelSource<'_> {
    fn open(&self, checkpoint: &Checkpoint) -> Result<Arc<Model>, PruningError> {
        match self {
            Self::Loaded(model) => Ok(Arc::clone(model)),
            Self::Load(device) => Ok(Arc::new(Model::load(checkpoint, device.clone())?)),
        }
    }
}

/// Measures the model with the policy and makes a plan; nothing is written.
///
/// A policy that needs neither probes nor losses is asked at once: the model is not loaded and no text is read.
///
/// # Errors
/// See [`Calibration::draw`], [`score_units`] and [`plan`]; or [`PruningError::Cancelled`].
pub fn derive_plan(
    checkpoint: &Arc<Checkpoint>,
    model: &ModelSource<'_>,
    policy: &ScoringPolicy,
    request: &PruneRequest,
    progress: &mut dyn Progress,
) -> Result<Plan, PruningError> {
    let spec = checkpoint.spec();
    // What can be refused at once is refused before minutes of calibration.
    let units = units(spec, &request.units, &request.target)?;
    let seed = request.calibration.seed;
    check_probes(policy, &units, spec)?;
    let sees_nothing = policy.probes(&units)?.is_empty() && !policy.needs_ablation(&units)?;
    let (scores, calibration) = if sees_nothing {
        (score_without_text(checkpoint, policy, &units, seed, progress)?, None)
    } else {
        step(progress, Phase::Load, 0, 1)?;
        let tokenizer = checkpoint.tokenizer()?;
        let calibration =
            Calibration::draw(&request.calibration_files, &tokenizer, spec, &request.calibration)?;
        let model = model.open(checkpoint)?;
        step(progress, Phase::Load, 1, 1)?;
        (score_units(checkpoint, &model, policy, &units, &calibration, progress)?, Some(calibration.record))
    };
    step(progress, Phase::Plan, 0, 1)?;
    let identity = policy.identity();
    let plan = plan(
        &scores,
        spec,
        &PlanRequest {
            target: request.target.clone(),
            units,
            constraints: request.constraints,
            storage: request.storage.of(checkpoint),
            policy: Some(PolicyReference {
                name: identity.name.clone(),
                version: identity.version.clone(),
                digest: policy.component().digest(),
            }),
            calibration,
        },
    )?;
    step(progress, Phase::Plan, 1, 1)?;
    Ok(plan)
}

/// Plans, fits if asked to, and cuts: writes the smaller model to the new directory `output` and returns the plan.
///
/// # Errors
/// See [`derive_plan`], [`refit_plan`] and [`surgery_with`]. The output does not exist then.
pub fn prune(
    checkpoint: &Arc<Checkpoint>,
    model: &ModelSource<'_>,
    policy: &ScoringPolicy,
    request: &PruneRequest,
    output: &Path,
    progress: &mut dyn Progress,
) -> Result<Plan, PruningError> {
    if output.symlink_metadata().is_ok() {
        return Err(PruningError::OutputExists { path: output.to_owned() });
    }
    if let Some(refit) = &request.refit {
        refit.check()?;
    }
    let plan = derive_plan(checkpoint, model, policy, request, progress)?;
    let refit = match request.refit {
        Some(how) => {
            let (files, calibration) = (&request.calibration_files, &request.calibration);
            Some(refit_plan(checkpoint, model, &plan, files, calibration, how, progress)?)
        }
        None => None,
    };
    surgery_with(&plan, checkpoint, refit.as_ref(), output, progress)?;
    Ok(plan)
}

/// Fits what `plan` leaves on windows of `files`, or of the built-in text where there are none.
///
/// # Errors
/// See [`Calibration::draw`] and [`refit`].
pub fn refit_plan(
    checkpoint: &Arc<Checkpoint>,
    model: &ModelSource<'_>,
    plan: &Plan,
    files: &[PathBuf],
    request: &CalibrationRequest,
    how: RefitRequest,
    progress: &mut dyn Progress,
) -> Result<Refit, PruningError> {
    how.check()?;
    let tokenizer = checkpoint.tokenizer()?;
    let spec = checkpoint.spec();
    let calibration = Calibration::draw(files, &tokenizer, spec, request)?;
    refit(checkpoint, &*model.open(checkpoint)?, plan, &calibration, how, progress)
}
