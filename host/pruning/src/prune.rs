//! The whole way from a model and a policy to a smaller checkpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use espalier_components::{ScoringPolicy, Unit};
use espalier_kernels::Device;
use espalier_model::{Checkpoint, Model};

use crate::aim::{Aim, Aiming};
use crate::allocation::Allocation;
use crate::calibration::{Calibration, CalibrationRequest};
use crate::error::PruningError;
use crate::plan::{Constraints, Plan, PlanRequest, PolicyReference, plan, units};
use crate::policy::{check_probes, score_units, score_without_text};
use crate::progress::{Phase, Progress, step};
use crate::protected::{Protected, raise, verify};
use crate::refit::{Refit, RefitRequest, refit};
use crate::scores::Scores;
use crate::search::Search;
use crate::storage::StorageType;
use crate::surgery::surgery_with;

/// What a pruning is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PruneRequest {
    /// The kinds that may go; those with a count in the target need not be named again.
    pub units: Vec<Unit>,
    /// What is to stay.
    pub aim: Aim,
    /// How a share is spread over the layers.
    pub allocation: Allocation,
    /// What must stay.
    pub protected: Vec<Protected>,
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

/// A plan and what led to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Derivation {
    /// The units that go.
    pub plan: Plan,
    /// The policy's scores, with those of protected units raised.
    pub scores: Scores,
    /// What was found where budgets were given.
    pub search: Option<Search>,
}

/// Measures the model with the policies and makes a plan, each kind of unit scored by the first that scores it; nothing is written, but for the small models in the temporary
/// directory that latency is calibrated with.
///
/// Policies that need neither probes nor losses are asked at once: the model is not loaded and no text is read, unless
/// budgets or sensitivities need losses.
///
/// # Errors
/// See [`Calibration::draw`], [`score_units`] and [`plan`]; budgets that cannot be met, protected units that do not fit; or
/// [`PruningError::Cancelled`].
pub fn derive_plan(
    checkpoint: &Arc<Checkpoint>,
    model: &ModelSource<'_>,
    policies: &[&ScoringPolicy],
    request: &PruneRequest,
    progress: &mut dyn Progress,
) -> Result<Derivation, PruningError> {
    let spec = checkpoint.spec();
    // What can be refused at once is refused before minutes of calibration.
    let units = units(spec, &request.aim.units(&request.units), &request.aim.known())?;
    request.aim.check(request.allocation)?;
    let assigned = assign(policies, &units);
    let mut sees_nothing = !request.aim.needs_losses(request.allocation);
    for (policy, units) in &assigned {
        check_probes(policy, units, spec)?;
        sees_nothing &= policy.probes(units)?.is_empty() && !policy.needs_ablation(units)?;
    }
    let seen = match sees_nothing {
        true => None,
        false => {
            step(progress, Phase::Load, 0, 1)?;
            let tokenizer = checkpoint.tokenizer()?;
            let calibration =
                Calibration::draw(&request.calibration_files, &tokenizer, spec, &request.calibration)?;
            let model = model.open(checkpoint)?;
            step(progress, Phase::Load, 1, 1)?;
            Some((model, calibration))
        }
    };
    let mut scores = Scores::new();
    for (policy, units) in &assigned {
        let found = match &seen {
            None => score_without_text(checkpoint, policy, units, request.calibration.seed, progress)?,
            Some((model, calibration)) => {
                score_units(checkpoint, model, policy, units, calibration, progress)?
            }
        };
        for &unit in units {
            scores.insert(unit, found.get(unit).unwrap_or_default().to_vec());
        }
    }
    raise(&request.protected, &mut scores, spec)?;
    let aiming = Aiming { checkpoint, request, units: &units, scores: &scores, seen: seen.as_ref() };
    let (target, search) = aiming.target(progress)?;
    step(progress, Phase::Plan, 0, 1)?;
    let reference = |policy: &ScoringPolicy| PolicyReference {
        name: policy.identity().name.clone(),
        version: policy.identity().version.clone(),
        digest: policy.component().digest(),
    };
    let plan = plan(
        &scores,
        spec,
        &PlanRequest {
            target,
            units,
            constraints: request.constraints,
            storage: request.storage.of(checkpoint),
            policies: assigned.iter().map(|(policy, _)| reference(policy)).collect(),
            calibration: seen.map(|(_, calibration)| calibration.record),
        },
    )?;
    verify(&request.protected, &plan)?;
    step(progress, Phase::Plan, 1, 1)?;
    Ok(Derivation { plan, scores, search })
}

/// The kinds that each policy scores: those that none before it does. The last one is left with what nobody scores, and
/// says so.
fn assign<'a>(policies: &[&'a ScoringPolicy], units: &[Unit]) -> Vec<(&'a ScoringPolicy, Vec<Unit>)> {
    let mut left = units.to_vec();
    let mut assigned = Vec::new();
    for (index, &policy) in policies.iter().enumerate() {
        let last = index + 1 == policies.len();
        let scores = |unit: &Unit| policy.units().iter().any(|scored| scored.unit == *unit);
        let (mine, others): (Vec<Unit>, Vec<Unit>) = left.into_iter().partition(|unit| last || scores(unit));
        left = others;
        if !mine.is_empty() {
            assigned.push((policy, mine));
        }
    }
    assigned
}

/// Plans, fits if asked to, and cuts: writes the smaller model to the new directory `output`. `planned` sees the plan and
/// what led to it before anything is cut.
///
/// # Errors
/// See [`derive_plan`], [`refit_plan`] and [`surgery_with`]. The output does not exist then.
pub fn prune(
    checkpoint: &Arc<Checkpoint>,
    model: &ModelSource<'_>,
    policies: &[&ScoringPolicy],
    request: &PruneRequest,
    output: &Path,
    planned: &mut dyn FnMut(&Derivation) -> Result<(), PruningError>,
    progress: &mut dyn Progress,
) -> Result<Derivation, PruningError> {
    if output.symlink_metadata().is_ok() {
        return Err(PruningError::OutputExists { path: output.to_owned() });
    }
    if let Some(refit) = &request.refit {
        refit.check()?;
    }
    let derivation = derive_plan(checkpoint, model, policies, request, progress)?;
    planned(&derivation)?;
    let plan = &derivation.plan;
    let refit = match request.refit {
        Some(how) => {
            let (files, calibration) = (&request.calibration_files, &request.calibration);
            Some(refit_plan(checkpoint, model, plan, files, calibration, how, progress)?)
        }
        None => None,
    };
    surgery_with(plan, checkpoint, refit.as_ref(), output, progress)?;
    Ok(derivation)
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
