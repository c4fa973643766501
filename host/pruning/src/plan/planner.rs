//! From scores and a target to a plan: a pure, deterministic function.

use espalier_components::Unit;
use espalier_model::{LayerSpec, ModelSpec};

use super::allocation::{Request, allocate, names};
use super::counts::{Counts, Options, Shape, heads_in_group};
use super::depth::removed_layers;
use super::ranking::{complement, keep_blocks, keep_in_groups};
use super::{
    Constraints, Count, ExpertChannels, LayerPlan, Layout, Plan, PolicyReference, Selection, Target,
};
use crate::calibration::CalibrationRecord;
use crate::error::PruningError;
use crate::scores::Scores;
use crate::size::Size;
use crate::storage::Storage;
use crate::unit::check_supported;

/// What a plan is asked for.
#[derive(Clone, Debug)]
pub struct PlanRequest {
    /// What is to stay.
    pub target: Target,
    /// The kinds that may go; those with a count in the target need not be named again.
    pub units: Vec<Unit>,
    /// What else must hold.
    pub constraints: Constraints,
    /// The number formats in which bytes are predicted and written.
    pub storage: Storage,
    /// Who scored the units.
    pub policies: Vec<PolicyReference>,
    /// What the scores were measured on.
    pub calibration: Option<CalibrationRecord>,
}

/// Chooses the units that go.
///
/// Counts are uniform over layers unless the target lists them layer by layer. Query heads leave every key/value group
/// in equal number, the lowest scores of each group first; groups, experts and channels leave by their score within the
/// layer, channels of experts by their score within the expert (in aligned blocks where the constraints want no value
/// changed). Layers leave by their scores, in pairs of neighbours where sliding and full attention alternate. How the
/// budget is split when several kinds may go is described in the module `allocation`. The same scores, specification and
/// request always give the same plan.
///
/// # Errors
/// A target that says nothing or is out of range, a unit that this architecture does not have, scores that are missing,
/// miscounted or not finite, layers that differ, senseless constraints, [`PruningError::TargetUnreachable`] with the
/// reachable range, or a result that the loaders named by the constraints would refuse.
pub fn plan(scores: &Scores, spec: &ModelSpec, request: &PlanRequest) -> Result<Plan, PruningError> {
    let PlanRequest { target, constraints, storage, .. } = request;
    let units = units(spec, &request.units, target)?;
    let free: Vec<Unit> = units.iter().copied().filter(|unit| !target.counts.contains_key(unit)).collect();
    if target.keep.is_none() && !free.is_empty() {
        return Err(PruningError::TargetMissing { units: names(&free) });
    }
    check_constraints(constraints)?;
    let shape = Shape::of(spec, constraints, storage)?;
    if units.contains(&Unit::Head) {
        check_heads_per_group(constraints, &shape)?;
    }
    let mut used = Scores::new();
    for &unit in &units {
        used.insert(unit, scores.checked(unit, spec)?.to_vec());
    }
    let options = Options::new(&shape, &free, target, constraints, storage)?;
    let counts = allocate(&Request {
        shape: &shape,
        options: &options,
        constraints,
        scores: &used,
        units: &units,
        keep: target.keep,
    })?;

    let mut plan = Plan::unchanged(spec, *storage);
    plan.target.clone_from(target);
    plan.units = units;
    plan.constraints = *constraints;
    plan.policies.clone_from(&request.policies);
    plan.calibration.clone_from(&request.calibration);
    let removed = match used.get(Unit::Layer) {
        Some(layers) => {
            let scores: Vec<f64> = layers.iter().map(|scores| scores.iter().sum()).collect();
            removed_layers(&scores, counts.layers, shape.pairs).unwrap_or_default()
        }
        None => Vec::new(),
    };
    for (entry, layer) in plan.layers.iter_mut().zip(&spec.layers) {
        if removed.contains(&entry.layer) {
            entry.removed = true;
        } else {
            let counts = layer_counts(&shape, counts, entry.layer, request)?;
            remove(entry, layer, &used, &counts, shape.channel_block);
        }
    }
    plan.after = Size::of(&after(&plan, spec)?, storage);
    plan.apply_to(spec)?;
    Ok(plan)
}

/// All kinds that may go, in order, each once.
pub(crate) fn units(spec: &ModelSpec, named: &[Unit], target: &Target) -> Result<Vec<Unit>, PruningError> {
    if let Some(keep) = target.keep
        && !(keep > 0.0 && keep <= 1.0)
    {
        return Err(PruningError::KeepOutOfRange { found: keep });
    }
    let mut units: Vec<Unit> = named.iter().chain(target.counts.keys()).copied().collect();
    units.sort_unstable();
    units.dedup();
    if units.is_empty() {
        return Err(PruningError::NoUnits);
    }
    for &unit in &units {
        check_supported(unit, spec)?;
    }
    Ok(units)
}

/// The specification that the plan leaves, before its sizes are known.
fn after(plan: &Plan, spec: &ModelSpec) -> Result<ModelSpec, PruningError> {
    let mut after = spec.clone();
    after.layers.clear();
    for (entry, layer) in plan.layers.iter().zip(&spec.layers) {
        after.layers.extend(entry.apply_to(layer, &plan.constraints)?);
    }
    Ok(after)
}

/// The counts of one layer: those of all, but for the kinds that the target counts layer by layer.
fn layer_counts(
    shape: &Shape,
    mut counts: Counts,
    layer: usize,
    request: &PlanRequest,
) -> Result<Counts, PruningError> {
    let PlanRequest { target, constraints, storage, .. } = request;
    let mut here = Target::default();
    for (&unit, count) in &target.counts {
        let Count::PerLayer(list) = count else { continue };
        let refused = |expected: String| {
            Err(PruningError::Count { unit, found: format!("a list of {}", list.len()), expected })
        };
        if unit == Unit::Layer || target.keep.is_some() {
            return refused(
                "one count, since the list of a kind goes with counts of the other kinds only".to_owned(),
            );
        }
        if constraints.layout != Layout::Espalier {
            return Err(PruningError::LoaderRule {
                found: format!("{unit} has a count for each layer"),
                loaders: "HF transformers, vLLM and llama.cpp",
                rule: "have one count for all layers".to_owned(),
            });
        }
        if list.len() != shape.whole.layers {
            return refused(format!("one count for each of the {} layers", shape.whole.layers));
        }
        here.counts.extend(list.get(layer).map(|&count| (unit, Count::Uniform(count))));
    }
    let heads = here.counts.remove(&Unit::Head);
    let options = Options::new(shape, &[], &here, constraints, storage)?;
    let only = |list: &[usize], unit: Unit, count: &mut usize| {
        if here.counts.contains_key(&unit) {
            *count = list.first().copied().unwrap_or(*count);
        }
    };
    only(&options.kv_groups, Unit::KvGroup, &mut counts.kv_groups);
    only(&options.experts, Unit::Expert, &mut counts.experts);
    only(&options.channels, Unit::ExpertChannel, &mut counts.channels);
    only(&options.channels, Unit::FfnChannel, &mut counts.channels);
    if let Some(Count::Uniform(heads)) = heads {
        counts.heads_per_group = heads_in_group(shape, &[counts.kv_groups], heads, constraints)?;
    }
    Ok(counts)
}

/// Fills the lists of what goes from a layer that stays, of the kinds that are up for removal.
fn remove(entry: &mut LayerPlan, layer: &LayerSpec, scores: &Scores, counts: &Counts, channel_block: usize) {
    let of_layer = |unit: Unit| scores.get(unit).and_then(|layers| layers.get(entry.layer));
    if let Some(scores) = of_layer(Unit::KvGroup) {
        let kept = keep_in_groups(scores, 1, counts.kv_groups);
        entry.kv_groups.removed = complement(layer.kv_heads, &kept);
    }
    if let Some(scores) = of_layer(Unit::Head) {
        let kept = keep_in_groups(scores, layer.kv_heads, counts.heads_per_group);
        let groups = &entry.kv_groups.removed;
        let stays = |head: &usize| !groups.contains(&(head / layer.group_size().max(1)));
        entry.heads.removed = complement(layer.heads, &kept).into_iter().filter(stays).collect();
    }
    if let (Some(scores), Some(channels)) = (of_layer(Unit::FfnChannel), entry.ffn_channels.as_mut()) {
        channels.removed = complement(layer.ffn_size, &keep_in_groups(scores, 1, counts.channels));
    }
    let Some(experts) = entry.experts.as_mut() else { return };
    if let Some(scores) = scores.get(Unit::Expert).and_then(|layers| layers.get(entry.layer)) {
        experts.removed = complement(experts.count, &keep_in_groups(scores, 1, counts.experts));
    }
    let scores = scores.get(Unit::ExpertChannel).and_then(|layers| layers.get(entry.layer));
    let Some(scores) = scores.filter(|_| counts.channels < layer.ffn_size) else { return };
    let of_expert = |expert: usize| {
        let range = expert * layer.ffn_size..(expert + 1) * layer.ffn_size;
        let kept = keep_blocks(scores.get(range).unwrap_or_default(), channel_block, counts.channels);
        let removed = complement(layer.ffn_size, &kept);
        ExpertChannels { expert, channels: Selection { count: layer.ffn_size, removed } }
    };
    entry.expert_channels = experts.kept().into_iter().map(of_expert).collect();
}

pub(super) fn check_constraints(constraints: &Constraints) -> Result<(), PruningError> {
    if constraints.ffn_channel_multiple == 0 {
        return Err(PruningError::Constraint {
            name: "ffn_channel_multiple",
            found: 0,
            expected: "at least 1".to_owned(),
        });
    }
    Ok(())
}

pub(super) fn check_heads_per_group(constraints: &Constraints, shape: &Shape) -> Result<(), PruningError> {
    let (heads, most) = (constraints.min_heads_per_group, shape.whole.heads_per_group);
    if heads == 0 || heads > most {
        return Err(PruningError::Constraint {
            name: "min_heads_per_group",
            found: heads,
            expected: format!("between 1 and {most}"),
        });
    }
    Ok(())
}
