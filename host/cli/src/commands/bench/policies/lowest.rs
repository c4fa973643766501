//! Which units go at a budget: those with the lowest scores.
//!
//! Every layer that is not protected loses the same number. Query heads leave key/value groups in equal number where that
//! number allows it, as a plan wants them to; a bench cuts nothing, so it also measures numbers that no plan can have, with
//! the lowest of the layer.

use std::ops::Range;

use espalier_components::AblatedUnit;
use espalier_model::LayerSpec;
use espalier_pruning::{Protected, Scores, Unit, unit_count};

/// The units that go.
pub(super) fn lowest(
    scores: &Scores,
    layers: &[LayerSpec],
    unit: Unit,
    share: f64,
    protected: &[Protected],
) -> Vec<AblatedUnit> {
    let scores = scores.get(unit).unwrap_or_default();
    let stays = |layer: usize, index: usize| protected.iter().any(|entry| entry.holds(unit, layer, index));
    let taken = |count: usize| (count as f64 * share).round() as usize;
    if unit == Unit::Layer {
        let whole = scores.iter().map(|layer| layer.iter().sum());
        let free = whole.enumerate().filter(|(layer, _)| !stays(*layer, 0)).collect();
        let gone = first(free, taken(scores.len())).into_iter();
        return gone.map(|layer| AblatedUnit { layer, unit, index: 0 }).collect();
    }
    let mut gone = Vec::new();
    for (layer, (scores, shape)) in scores.iter().zip(layers).enumerate() {
        let taken = taken(unit_count(unit, shape));
        let groups = groups(unit, shape, taken);
        let of_group = taken / groups.len().max(1);
        for group in groups {
            let scored = scores.iter().copied().enumerate().skip(group.start).take(group.len());
            let free = scored.filter(|(index, _)| !stays(layer, *index)).collect();
            let lowest = first(free, of_group).into_iter();
            gone.extend(lowest.map(|index| AblatedUnit { layer, unit, index }));
        }
    }
    gone
}

/// The parts of a layer that lose equally many of the `taken` units.
fn groups(unit: Unit, layer: &LayerSpec, taken: usize) -> Vec<Range<usize>> {
    let size = layer.group_size().max(1);
    match unit {
        Unit::Head if taken.is_multiple_of(layer.kv_heads.max(1)) => {
            (0..layer.kv_heads).map(|group| group * size..(group + 1) * size).collect()
        }
        unit => std::iter::once(0..unit_count(unit, layer)).collect(),
    }
}

/// The indices of the `count` lowest scores.
fn first(mut scored: Vec<(usize, f64)>, count: usize) -> Vec<usize> {
    scored.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    scored.into_iter().map(|(index, _)| index).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYER: LayerSpec = LayerSpec {
        heads: 6,
        kv_heads: 2,
        ffn_size: 4,
        attention_bias: false,
        output_bias: false,
        sliding_window: None,
        attention_sinks: false,
        experts: None,
    };

    fn gone(unit: Unit, of_layer: &[f64], share: f64, protected: &[Protected]) -> Vec<(usize, usize)> {
        let mut scores = Scores::new();
        scores.insert(unit, vec![of_layer.to_vec(), of_layer.iter().map(|score| -score).collect()]);
        let gone = lowest(&scores, &[LAYER, LAYER], unit, share, protected);
        gone.into_iter().map(|unit| (unit.layer, unit.index)).collect()
    }

    #[test]
    fn the_lowest_of_each_layer_go() {
        let found = gone(Unit::FfnChannel, &[0.3, -1.0, 2.0, 0.1], 0.5, &[]);
        assert_eq!(found, [(0, 1), (0, 3), (1, 2), (1, 0)]);
    }

    #[test]
    fn heads_leave_groups_in_equal_number_where_that_is_possible() {
        let scores = [0.1, 0.2, 0.3, 4.0, 5.0, 6.0];
        assert_eq!(gone(Unit::Head, &scores, 1.0 / 3.0, &[]), [(0, 0), (0, 3), (1, 2), (1, 5)]);
        assert_eq!(gone(Unit::Head, &scores, 0.5, &[]), [(0, 0), (0, 1), (0, 2), (1, 5), (1, 4), (1, 3)]);
    }

    #[test]
    fn protected_layers_keep_all() {
        let protected = |unit| [Protected { unit, layers: Some(vec![0]), indices: None }];
        let heads = [0.1, 0.2, 0.3, 4.0, 5.0, 6.0];
        assert_eq!(gone(Unit::Head, &heads, 1.0 / 3.0, &protected(Unit::Head)), [(1, 2), (1, 5)]);
        assert_eq!(gone(Unit::Layer, &[-1.0], 0.5, &[]), [(0, 0)]);
        assert_eq!(gone(Unit::Layer, &[-1.0], 0.5, &protected(Unit::Layer)), [(1, 0)]);
    }
}
