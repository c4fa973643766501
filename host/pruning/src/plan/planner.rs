//! From scores and a target to a plan: a pure, deterministic function.

use espalier_model::ModelSpec;

use super::allocation::{Shape, allocate};
use super::ranking::{complement, keep_in_groups};
use super::{Constraints, LayerPlan, PLAN_VERSION, Plan, PolicyReference, Selection};
use crate::calibration::CalibrationRecord;
use crate::error::PruningError;
use crate::scores::Scores;
use crate::size::{Size, StorageType};
use crate::unit::check_supported;
use espalier_components::Unit;

/// What a plan is asked for.
#[derive(Clone, Debug)]
pub struct PlanRequest {
    /// The share of *all* parameters of the model that may stay, in (0, 1]. The plan never keeps more; it keeps as
    /// little less as whole units allow.
    pub keep: f64,
    /// The kinds that may go.
    pub units: Vec<Unit>,
    /// What else must hold.
    pub constraints: Constraints,
    /// The number format in which bytes are predicted and written.
    pub storage: StorageType,
    /// Who scored the units.
    pub policy: Option<PolicyReference>,
    /// What the scores were measured on.
    pub calibration: Option<CalibrationRecord>,
}

/// Chooses the units that go.
///
/// Counts are uniform over layers. Query heads leave every key/value group in equal number, the lowest scores of each
/// group first; channels leave by their score within the layer. How the budget is split when both kinds may go is
/// described in the module `allocation`. The same scores, specification and request always give the same plan.
///
/// # Errors
/// A share outside (0, 1], a unit that this architecture cannot lose, scores that are missing, miscounted or not
/// finite, layers that differ, senseless constraints, or [`PruningError::TargetUnreachable`] with the reachable range.
pub fn plan(scores: &Scores, spec: &ModelSpec, request: &PlanRequest) -> Result<Plan, PruningError> {
    let keep = request.keep;
    if !(keep > 0.0 && keep <= 1.0) {
        return Err(PruningError::KeepOutOfRange { found: keep });
    }
    let mut units = request.units.clone();
    units.sort_unstable();
    units.dedup();
    if units.is_empty() {
        return Err(PruningError::NoUnits);
    }
    for &unit in &units {
        check_supported(unit, spec)?;
    }
    let shape = Shape::of(spec)?;
    check_constraints(&request.constraints, &shape)?;
    let mut used = Scores::new();
    for &unit in &units {
        used.insert(unit, scores.checked(unit, spec)?.to_vec());
    }
    let allocation = allocate(&shape, &used, &units, keep, &request.constraints)?;

    let mut plan = Plan::unchanged(spec, request.storage);
    plan.version = PLAN_VERSION;
    plan.keep = keep;
    plan.constraints = request.constraints;
    plan.policy.clone_from(&request.policy);
    plan.calibration.clone_from(&request.calibration);
    let mut pruned = spec.clone();
    for (index, (entry, layer)) in plan.layers.iter_mut().zip(&mut pruned.layers).enumerate() {
        let LayerPlan { heads, ffn_channels, .. } = entry;
        remove(heads, used.get(Unit::Head), index, shape.kv_heads, allocation.heads_per_group);
        remove(ffn_channels, used.get(Unit::FfnChannel), index, 1, allocation.channels);
        layer.heads = heads.kept_count();
        layer.ffn_size = ffn_channels.kept_count();
    }
    plan.units = units;
    plan.after = Size::of(&pruned, request.storage);
    Ok(plan)
}

/// Fills the removed list of one selection from the layer's scores, if its kind is up for removal.
fn remove(selection: &mut Selection, scores: Option<&[Vec<f64>]>, layer: usize, groups: usize, keep: usize) {
    if let Some(scores) = scores.and_then(|layers| layers.get(layer)) {
        selection.removed = complement(selection.count, &keep_in_groups(scores, groups, keep));
    }
}

fn check_constraints(constraints: &Constraints, shape: &Shape) -> Result<(), PruningError> {
    if constraints.ffn_channel_multiple == 0 {
        return Err(PruningError::Constraint {
            name: "ffn_channel_multiple",
            found: 0,
            expected: "at least 1".to_owned(),
        });
    }
    let heads = constraints.min_heads_per_group;
    if heads == 0 || heads > shape.heads_per_group {
        return Err(PruningError::Constraint {
            name: "min_heads_per_group",
            found: heads,
            expected: format!("between 1 and {}", shape.heads_per_group),
        });
    }
    Ok(())
}
