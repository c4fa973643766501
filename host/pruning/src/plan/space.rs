//! All counts that plans may leave, and what models of these counts weigh.

use std::collections::BTreeMap;

use espalier_components::Unit;
use espalier_model::{ExpertsSpec, ModelSpec};

use super::counts::{Counts, Options, Shape};
use super::planner::{check_constraints, check_heads_per_group};
use super::{Constraints, Count, Target};
use crate::error::PruningError;
use crate::size::Size;
use crate::storage::Storage;

/// More combinations than this are thinned out, channels first.
const MOST_COMBINATIONS: usize = 200_000;

/// A choice of counts for all kinds that may go.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choice {
    /// Units that stay: layers in all; heads, groups, channels and experts in each layer.
    pub(crate) counts: BTreeMap<Unit, usize>,
    /// What the model weighs then.
    pub(crate) size: Size,
}

impl Choice {
    /// The same as a target of a plan.
    pub(crate) fn target(&self) -> Target {
        let counts = self.counts.iter().map(|(&unit, &count)| (unit, Count::Uniform(count)));
        Target { keep: None, counts: counts.collect() }
    }
}

/// The counts that each kind may have and their combinations.
pub(crate) struct Space {
    shape: Shape,
    options: Options,
    constraints: Constraints,
    storage: Storage,
    spec: ModelSpec,
    units: Vec<Unit>,
}

impl Space {
    /// `units` may go; all others stay whole.
    pub(crate) fn new(
        spec: &ModelSpec,
        units: &[Unit],
        constraints: &Constraints,
        storage: &Storage,
    ) -> Result<Self, PruningError> {
        check_constraints(constraints)?;
        let shape = Shape::of(spec, constraints, storage)?;
        if units.contains(&Unit::Head) {
            check_heads_per_group(constraints, &shape)?;
        }
        let options = Options::new(&shape, units, &Target::default(), constraints, storage)?;
        let (constraints, storage) = (*constraints, *storage);
        Ok(Self { shape, options, constraints, storage, spec: spec.clone(), units: units.to_vec() })
    }

    /// The counts of one kind where all others are whole, ascending; heads are those of a layer.
    pub(crate) fn counts(&self, unit: Unit) -> Vec<usize> {
        match unit {
            Unit::Layer => self.options.layers.clone(),
            Unit::KvGroup => self.options.kv_groups.clone(),
            Unit::Head => {
                let heads =
                    self.options.heads_per_group.iter().map(|heads| heads * self.shape.whole.kv_groups);
                let counts = |heads: usize| Counts {
                    heads_per_group: heads / self.shape.whole.kv_groups.max(1),
                    ..self.shape.whole
                };
                heads.filter(|&heads| self.allowed(&counts(heads))).collect()
            }
            Unit::Expert => self.options.experts.clone(),
            Unit::FfnChannel | Unit::ExpertChannel => self.options.channels.clone(),
        }
    }

    fn allowed(&self, counts: &Counts) -> bool {
        self.shape.check_heads(counts, &self.constraints).is_ok()
    }

    /// The unpruned model.
    pub(crate) fn whole(&self) -> Choice {
        self.choice(&self.shape.whole, &self.sizes(&self.shape.whole))
    }

    /// All combinations in which each kind has at least `least` of its counts.
    pub(crate) fn combinations(&self, least: &BTreeMap<Unit, usize>) -> Vec<Choice> {
        let enough = |unit: Unit, list: &[usize]| -> Vec<usize> {
            let least = least.get(&unit).copied().unwrap_or(0);
            list.iter().copied().filter(|&count| count >= least).collect()
        };
        let Options { layers, kv_groups, heads_per_group, experts, channels } = &self.options;
        let channel =
            if self.units.contains(&Unit::ExpertChannel) { Unit::ExpertChannel } else { Unit::FfnChannel };
        let (layers, kv_groups) = (enough(Unit::Layer, layers), enough(Unit::KvGroup, kv_groups));
        let (experts, mut channels) = (enough(Unit::Expert, experts), enough(channel, channels));
        let others = layers.len() * kv_groups.len() * heads_per_group.len() * experts.len();
        let most = (MOST_COMBINATIONS / others.max(1)).max(2);
        if channels.len() > most {
            channels = spread(&channels, most);
        }
        let least_heads = least.get(&Unit::Head).copied().unwrap_or(0);
        let whole = &self.shape.whole;
        let mut choices = Vec::new();
        for &kv_groups in &kv_groups {
            for &heads_per_group in heads_per_group {
                // The least number of heads was measured with all groups in place.
                if heads_per_group * whole.kv_groups < least_heads {
                    continue;
                }
                for &experts in &experts {
                    for &channels in &channels {
                        let mut counts =
                            Counts { layers: whole.layers, kv_groups, heads_per_group, experts, channels };
                        if !self.allowed(&counts) {
                            continue;
                        }
                        let sizes = self.sizes(&counts);
                        for &layers in &layers {
                            counts.layers = layers;
                            choices.push(self.choice(&counts, &sizes));
                        }
                    }
                }
            }
        }
        choices
    }

    /// The size of the model without layers and of one layer.
    fn sizes(&self, counts: &Counts) -> (Size, Size) {
        let mut spec = self.spec.clone();
        spec.layers.truncate(1);
        if let Some(layer) = spec.layers.first_mut() {
            layer.heads = counts.kv_groups * counts.heads_per_group;
            layer.kv_heads = counts.kv_groups;
            layer.ffn_size = counts.channels;
            layer.experts = layer.experts.map(|experts| ExpertsSpec { count: counts.experts, ..experts });
        }
        let one = Size::of(&spec, &self.storage);
        spec.layers.clear();
        let outside = Size::of(&spec, &self.storage);
        let each = Size {
            parameters: one.parameters - outside.parameters,
            active_parameters: one.active_parameters - outside.active_parameters,
            bytes: one.bytes - outside.bytes,
            flops_per_token: one.flops_per_token - outside.flops_per_token,
        };
        (outside, each)
    }

    fn choice(&self, counts: &Counts, (outside, each): &(Size, Size)) -> Choice {
        let layers = counts.layers as u64;
        let size = Size {
            parameters: outside.parameters + layers * each.parameters,
            active_parameters: outside.active_parameters + layers * each.active_parameters,
            bytes: outside.bytes + layers * each.bytes,
            flops_per_token: outside.flops_per_token + layers * each.flops_per_token,
        };
        let count = |unit: Unit| match unit {
            Unit::Layer => counts.layers,
            Unit::KvGroup => counts.kv_groups,
            Unit::Head => counts.kv_groups * counts.heads_per_group,
            Unit::Expert => counts.experts,
            Unit::FfnChannel | Unit::ExpertChannel => counts.channels,
        };
        Choice { counts: self.units.iter().map(|&unit| (unit, count(unit))).collect(), size }
    }
}

/// At most `most` of a list, evenly, the ends included.
pub(crate) fn spread(list: &[usize], most: usize) -> Vec<usize> {
    let last = list.len().saturating_sub(1);
    let steps = most.saturating_sub(1).max(1).min(last.max(1));
    let mut found: Vec<usize> =
        (0..=steps).filter_map(|step| list.get(step * last / steps).copied()).collect();
    found.dedup();
    found
}
