//! The counts that a plan may leave: what a model has, what its target fixes and its constraints allow, and what a
//! model of such counts weighs.

use espalier_components::Unit;
use espalier_evaluation::unit_parameters;
use espalier_model::{ExpertsSpec, LayerSpec, ModelSpec};

use super::constraints::{MXFP4_BLOCK, channel_block};
use super::loaders::{alternates, check_heads};
use super::{Constraints, Count, Layout, Target};
use crate::error::PruningError;
use crate::storage::{NumberFormat, Storage};

/// Counts that stay, the same in every layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    /// Layers.
    pub(super) layers: usize,
    /// Key/value groups in a layer.
    pub(super) kv_groups: usize,
    /// Query heads in a group.
    pub(super) heads_per_group: usize,
    /// Experts in a layer; 0 in a dense one.
    pub(super) experts: usize,
    /// Channels of the feed-forward block, or of each expert.
    pub(super) channels: usize,
}

/// The uniform shape of a model's layers.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    spec: ModelSpec,
    layer: LayerSpec,
    pub(super) whole: Counts,
    outside_layers: u64,
    /// Layers go in pairs, so that sliding and full attention still alternate.
    pub(super) pairs: bool,
    /// Channels of an expert that stay or go together.
    pub(super) channel_block: usize,
}

impl Shape {
    pub(super) fn of(
        spec: &ModelSpec,
        constraints: &Constraints,
        storage: &Storage,
    ) -> Result<Self, PruningError> {
        let Some(first) = spec.layers.first() else {
            return Err(super::mismatch("the number of layers", 0, "at least 1"));
        };
        let experts = |layer: &LayerSpec| layer.experts.map_or(0, |experts| experts.count);
        for (index, layer) in spec.layers.iter().enumerate() {
            let counts = [
                ("query heads", layer.heads, first.heads),
                ("key/value heads", layer.kv_heads, first.kv_heads),
                ("feed-forward channels", layer.ffn_size, first.ffn_size),
                ("experts", experts(layer), experts(first)),
            ];
            for (what, found, expected) in counts {
                if found != expected {
                    return Err(PruningError::LayersDiffer { layer: index, what, found, expected });
                }
            }
        }
        let (heads, kv_heads) = (first.heads, first.kv_heads);
        if kv_heads == 0 || heads == 0 || heads % kv_heads != 0 {
            return Err(PruningError::HeadGroups { layer: 0, heads, kv_heads });
        }
        let in_layers: u64 =
            spec.layers.iter().filter_map(|layer| unit_parameters(spec, layer, Unit::Layer)).sum();
        Ok(Self {
            whole: Counts {
                layers: spec.layers.len(),
                kv_groups: kv_heads,
                heads_per_group: heads / kv_heads,
                experts: experts(first),
                channels: first.ffn_size,
            },
            outside_layers: spec.parameters() - in_layers,
            pairs: constraints.layout == Layout::Portable && alternates(spec),
            channel_block: if first.experts.is_some() { channel_block(constraints, storage) } else { 1 },
            layer: first.clone(),
            spec: spec.clone(),
        })
    }

    /// Parameters of the model with these counts.
    pub(super) fn parameters(&self, counts: &Counts) -> u64 {
        let mut layer = self.layer.clone();
        layer.heads = counts.kv_groups * counts.heads_per_group;
        layer.kv_heads = counts.kv_groups;
        layer.ffn_size = counts.channels;
        layer.experts = layer.experts.map(|experts| ExpertsSpec { count: counts.experts, ..experts });
        let of_layer = unit_parameters(&self.spec, &layer, Unit::Layer).unwrap_or(0);
        self.outside_layers + counts.layers as u64 * of_layer
    }

    /// Parameters of all units of one kind.
    pub(super) fn parameters_of(&self, unit: Unit) -> u64 {
        let Counts { layers, kv_groups, heads_per_group, experts, channels } = self.whole;
        let count = match unit {
            Unit::Layer => 1,
            Unit::Head => kv_groups * heads_per_group,
            Unit::KvGroup => kv_groups,
            Unit::FfnChannel => channels,
            Unit::Expert => experts,
            Unit::ExpertChannel => experts * channels,
        };
        let each = unit_parameters(&self.spec, &self.layer, unit).unwrap_or(0);
        (layers * count) as u64 * each
    }

    /// Whether so many groups of so many heads are allowed together.
    pub(super) fn check_heads(&self, counts: &Counts, constraints: &Constraints) -> Result<(), PruningError> {
        check_heads(&self.spec, counts.kv_groups * counts.heads_per_group, constraints)
    }
}

/// The counts to choose from, each list ascending.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) layers: Vec<usize>,
    pub(super) kv_groups: Vec<usize>,
    pub(super) heads_per_group: Vec<usize>,
    pub(super) experts: Vec<usize>,
    pub(super) channels: Vec<usize>,
}

impl Options {
    /// `free` are the kinds of which the share of the target decides; kinds that are neither free nor counted stay
    /// whole.
    pub(super) fn new(
        shape: &Shape,
        free: &[Unit],
        target: &Target,
        constraints: &Constraints,
        storage: &Storage,
    ) -> Result<Self, PruningError> {
        let Counts { layers, kv_groups, heads_per_group, experts, channels } = shape.whole;
        let active = shape.layer.experts.map_or(0, |experts| experts.active);
        let step = match storage.experts {
            NumberFormat::Mxfp4 if experts > 0 => lcm(constraints.ffn_channel_multiple, MXFP4_BLOCK),
            _ => constraints.ffn_channel_multiple,
        };
        let channel_unit = if experts > 0 { Unit::ExpertChannel } else { Unit::FfnChannel };
        let choose = |unit: Unit, whole: usize, allowed: Vec<usize>, expected: String| {
            if free.contains(&unit) {
                return Ok(allowed);
            }
            match target.counts.get(&unit) {
                Some(Count::Uniform(count)) if allowed.contains(count) => Ok(vec![*count]),
                Some(Count::Uniform(count)) => {
                    Err(PruningError::Count { unit, found: count.to_string(), expected })
                }
                Some(Count::PerLayer(_)) | None => Ok(vec![whole]),
            }
        };
        let by_two = if shape.pairs { 2 } else { 1 };
        let pairs = if shape.pairs {
            ", and an even number fewer: vLLM and llama.cpp let every other layer slide, the first included"
        } else {
            ""
        };
        let multiples = (1..).map(|n| n * step).take_while(|&count| count < channels);
        let mut options = Self {
            layers: choose(
                Unit::Layer,
                layers,
                (1..=layers).filter(|count| (layers - count).is_multiple_of(by_two)).collect(),
                format!("between 1 and {layers}{pairs}"),
            )?,
            kv_groups: choose(
                Unit::KvGroup,
                kv_groups,
                (1..=kv_groups).collect(),
                format!("between 1 and {kv_groups}"),
            )?,
            heads_per_group: if free.contains(&Unit::Head) {
                (constraints.min_heads_per_group..=heads_per_group).collect()
            } else {
                vec![heads_per_group]
            },
            experts: choose(
                Unit::Expert,
                experts,
                (active..=experts).collect(),
                format!(
                    "between {active}, through which each token passes (num_experts_per_tok), and {experts}"
                ),
            )?,
            channels: choose(
                channel_unit,
                channels,
                multiples.chain([channels]).collect(),
                format!(
                    "a multiple of {step}, so that block formats of HF transformers, vLLM and llama.cpp can hold them, up to {channels}"
                ),
            )?,
        };
        if let Some(Count::Uniform(heads)) = target.counts.get(&Unit::Head) {
            options.heads_per_group = vec![heads_in_group(shape, &options.kv_groups, *heads, constraints)?];
        }
        Ok(options)
    }
}

/// Query heads in a group, from those in a layer.
pub(super) fn heads_in_group(
    shape: &Shape,
    kv_groups: &[usize],
    heads: usize,
    constraints: &Constraints,
) -> Result<usize, PruningError> {
    let refused =
        |expected: String| Err(PruningError::Count { unit: Unit::Head, found: heads.to_string(), expected });
    let &[kv_groups] = kv_groups else {
        return refused("a count of kv-group beside it, since a group takes its heads along".to_owned());
    };
    let per_group = heads / kv_groups.max(1);
    let most = shape.whole.heads_per_group;
    if per_group * kv_groups != heads || !(constraints.min_heads_per_group..=most).contains(&per_group) {
        let least = constraints.min_heads_per_group * kv_groups;
        return refused(format!(
            "a multiple of the {kv_groups} key/value groups between {least} and {}",
            most * kv_groups
        ));
    }
    let counts = Counts { kv_groups, heads_per_group: per_group, ..shape.whole };
    shape.check_heads(&counts, constraints)?;
    Ok(per_group)
}

fn lcm(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x.max(1)) * b
}
