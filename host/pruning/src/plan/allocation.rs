//! How many heads and how many channels stay: the split of the budget between the kinds.
//!
//! Counts are uniform over layers, because the file format states one count for all. For every allowed number of heads
//! the largest number of channels within the target is taken; that gives at most a few dozen candidates. Those that
//! waste more than one step of channels (they lost so many heads that even all channels stay below the target) are
//! dropped when there is any other. Of the rest, the candidate wins that keeps the most importance, where
//!
//! > kept importance = Σ over kinds of (parameters of the kind) · (mean over layers of the kept share of its scores)
//!
//! The parameter weight makes the kinds comparable: it is 1 − (importance lost per parameter) summed over the
//! parameters that could go, so a kind gives up units as long as its units are cheap for their size. A policy's
//! absolute scale per kind cancels. Ties go to the larger model, then to the one with more heads.

use espalier_evaluation::unit_parameters;
use espalier_model::ModelSpec;

use super::Constraints;
use super::ranking::{keep_in_groups, kept_share};
use crate::error::PruningError;
use crate::scores::Scores;
use espalier_components::Unit;

/// Uniform counts that stay in every layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allocation {
    /// Query heads kept in every key/value group.
    pub(super) heads_per_group: usize,
    /// Feed-forward channels kept.
    pub(super) channels: usize,
}

/// The uniform shape of a model's layers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) layers: usize,
    pub(super) kv_heads: usize,
    pub(super) heads_per_group: usize,
    pub(super) channels: usize,
    parameters: u64,
    head_parameters: u64,
    channel_parameters: u64,
    hidden_size: usize,
}

impl Shape {
    pub(super) fn of(spec: &ModelSpec) -> Result<Self, PruningError> {
        let Some(first) = spec.layers.first() else {
            return Err(PruningError::PlanMismatch {
                what: "the number of layers".to_owned(),
                found: "0".to_owned(),
                expected: "at least 1".to_owned(),
            });
        };
        for (index, layer) in spec.layers.iter().enumerate() {
            let counts = [
                ("query heads", layer.heads, first.heads),
                ("key/value heads", layer.kv_heads, first.kv_heads),
                ("feed-forward channels", layer.ffn_size, first.ffn_size),
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
        Ok(Self {
            layers: spec.layers.len(),
            kv_heads,
            heads_per_group: heads / kv_heads,
            channels: first.ffn_size,
            parameters: spec.parameters(),
            head_parameters: unit_parameters(spec, first, Unit::Head).unwrap_or(0),
            channel_parameters: unit_parameters(spec, first, Unit::FfnChannel).unwrap_or(0),
            hidden_size: spec.hidden_size,
        })
    }

    fn parameters_of(&self, allocation: Allocation) -> u64 {
        let layers = self.layers as u64;
        let heads = ((self.heads_per_group - allocation.heads_per_group) * self.kv_heads) as u64;
        let channels = (self.channels - allocation.channels) as u64;
        self.parameters - layers * (heads * self.head_parameters + channels * self.channel_parameters)
    }

    fn head_counts(&self, units: &[Unit], constraints: &Constraints) -> Vec<usize> {
        if !units.contains(&Unit::Head) {
            return vec![self.heads_per_group];
        }
        (constraints.min_heads_per_group..=self.heads_per_group)
            .filter(|&count| {
                count == self.heads_per_group
                    || !constraints.heads_divide_hidden_size
                    || self.hidden_size.is_multiple_of(count * self.kv_heads)
            })
            .collect()
    }

    /// Allowed channel counts, ascending: positive multiples of the constraint's step, and all channels.
    fn channel_counts(&self, units: &[Unit], constraints: &Constraints) -> Vec<usize> {
        let mut counts = Vec::new();
        if units.contains(&Unit::FfnChannel) {
            let step = constraints.ffn_channel_multiple;
            counts.extend((1..).map(|n| n * step).take_while(|&count| count < self.channels));
        }
        counts.push(self.channels);
        counts
    }
}

/// Chooses the counts that stay. `keep` is a share of all parameters, `scores` are checked already.
pub(super) fn allocate(
    shape: &Shape,
    scores: &Scores,
    units: &[Unit],
    keep: f64,
    constraints: &Constraints,
) -> Result<Allocation, PruningError> {
    // A share given with few decimals must not lose a unit to rounding.
    let budget = (keep * shape.parameters as f64 + 0.5).floor() as u64;
    let head_counts = shape.head_counts(units, constraints);
    let channel_counts = shape.channel_counts(units, constraints);
    let mut candidates: Vec<Allocation> = head_counts
        .iter()
        .filter_map(|&heads_per_group| {
            channel_counts
                .iter()
                .rev()
                .map(|&channels| Allocation { heads_per_group, channels })
                .find(|&allocation| shape.parameters_of(allocation) <= budget)
        })
        .collect();
    if candidates.is_empty() {
        let smallest = head_counts.first().zip(channel_counts.first());
        let lowest = smallest.map_or(1.0, |(&heads_per_group, &channels)| {
            shape.parameters_of(Allocation { heads_per_group, channels }) as f64 / shape.parameters as f64
        });
        return Err(PruningError::TargetUnreachable {
            keep,
            units: units.iter().map(|unit| unit.name()).collect::<Vec<_>>().join(", "),
            lowest,
        });
    }
    if units.contains(&Unit::FfnChannel) {
        let step = constraints.ffn_channel_multiple as u64 * shape.channel_parameters * shape.layers as u64;
        let tight = |allocation: &Allocation| budget - shape.parameters_of(*allocation) < step;
        if candidates.iter().any(tight) {
            candidates.retain(tight);
        }
    }
    let ranked = candidates.into_iter().map(|allocation| {
        (kept_importance(shape, scores, allocation), shape.parameters_of(allocation), allocation)
    });
    let best = ranked.max_by(|(value, size, allocation), (other_value, other_size, other)| {
        value
            .total_cmp(other_value)
            .then(size.cmp(other_size))
            .then(allocation.heads_per_group.cmp(&other.heads_per_group))
    });
    // There is at least one candidate here; keeping everything is the harmless answer to the impossible case.
    let everything = Allocation { heads_per_group: shape.heads_per_group, channels: shape.channels };
    Ok(best.map_or(everything, |(_, _, allocation)| allocation))
}

/// The objective of the module header.
fn kept_importance(shape: &Shape, scores: &Scores, allocation: Allocation) -> f64 {
    let mean_share = |unit: Unit, groups: usize, keep: usize| {
        // A kind that was not scored is not up for removal: all of it stays.
        scores.get(unit).map_or(1.0, |layers| {
            let shares =
                layers.iter().map(|scores| kept_share(scores, &keep_in_groups(scores, groups, keep)));
            shares.sum::<f64>() / layers.len().max(1) as f64
        })
    };
    let heads = (shape.heads_per_group * shape.kv_heads) as u64 * shape.head_parameters;
    let channels = shape.channels as u64 * shape.channel_parameters;
    heads as f64 * mean_share(Unit::Head, shape.kv_heads, allocation.heads_per_group)
        + channels as f64 * mean_share(Unit::FfnChannel, 1, allocation.channels)
}
