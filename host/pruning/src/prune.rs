//! The whole way from a model and a policy to a smaller checkpoint.

use std::path::{Path, PathBuf};

use espalier_components::{ScoringPolicy, Unit};
use espalier_model::{Checkpoint, Model, Tokenizer};

use crate::calibration::{Calibration, CalibrationRequest};
use crate::error::PruningError;
use crate::plan::{Constraints, Plan, PlanRequest, PolicyReference, plan};
use crate::policy::score_units;
use crate::progress::{Phase, Progress, step};
use crate::size::StorageType;
use crate::surgery::surgery;
use crate::unit::check_supported;

/// What a pruning is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct PruneRequest {
    /// The kinds that may go.
    pub units: Vec<Unit>,
    /// The share of all parameters that may stay, in (0, 1].
    pub keep: f64,
    /// What else must hold.
    pub constraints: Constraints,
    /// The number format of the new checkpoint.
    pub storage: StorageType,
    /// Calibration texts.
    pub calibration_files: Vec<PathBuf>,
    /// How much of them.
    pub calibration: CalibrationRequest,
}

/// Measures the model with the policy and makes a plan; nothing is written.
///
/// # Errors
/// See [`Calibration::draw`], [`score_units`] and [`plan`]; or [`PruningError::Cancelled`].
pub fn derive_plan(
    model: &Model,
    tokenizer: &Tokenizer,
    policy: &ScoringPolicy,
    request: &PruneRequest,
    progress: &mut dyn Progress,
) -> Result<Plan, PruningError> {
    let spec = model.spec();
    // What can be refused at once is refused before minutes of calibration.
    if !(request.keep > 0.0 && request.keep <= 1.0) {
        return Err(PruningError::KeepOutOfRange { found: request.keep });
    }
    if request.units.is_empty() {
        return Err(PruningError::NoUnits);
    }
    for &unit in &request.units {
        check_supported(unit, spec)?;
    }
    step(progress, Phase::Load, 0, 1)?;
    let calibration = Calibration::draw(&request.calibration_files, tokenizer, spec, &request.calibration)?;
    step(progress, Phase::Load, 1, 1)?;
    let scores = score_units(model, policy, &request.units, &calibration, progress)?;
    step(progress, Phase::Plan, 0, 1)?;
    let identity = policy.identity();
    let plan = plan(
        &scores,
        spec,
        &PlanRequest {
            keep: request.keep,
            units: request.units.clone(),
            constraints: request.constraints,
            storage: request.storage,
            policy: Some(PolicyReference {
                name: identity.name.clone(),
                version: identity.version.clone(),
                digest: policy.component().digest(),
            }),
            calibration: Some(calibration.record),
        },
    )?;
    step(progress, Phase::Plan, 1, 1)?;
    Ok(plan)
}

/// Plans and cuts: writes the smaller model to the new directory `output` and returns the plan.
///
/// `model` is the loaded form of `checkpoint`.
///
/// # Errors
/// See [`derive_plan`] and [`surgery`]. The output does not exist then.
pub fn prune(
    checkpoint: &Checkpoint,
    model: &Model,
    policy: &ScoringPolicy,
    request: &PruneRequest,
    output: &Path,
    progress: &mut dyn Progress,
) -> Result<Plan, PruningError> {
    if output.symlink_metadata().is_ok() {
        return Err(PruningError::OutputExists { path: output.to_owned() });
    }
    let plan = derive_plan(model, &checkpoint.tokenizer()?, policy, request, progress)?;
    surgery(&plan, checkpoint, output, progress)?;
    Ok(plan)
}
