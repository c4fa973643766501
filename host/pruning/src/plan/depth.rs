//! Which layers stay, given their scores and how many may.

use super::ranking::{complement, keep_in_groups};

/// Indices of the layers that go, ascending, so that `keep` stay and the scores that go are the lowest in sum.
///
/// With `pairs` neighbours go together, two by two: what is left alternates between sliding and full attention as
/// before. The choice of pairs is optimal (dynamic programming over the layers), and ties go to the earlier layers
/// staying. An odd number cannot go in pairs; `None` then.
pub(super) fn removed_layers(scores: &[f64], keep: usize, pairs: bool) -> Option<Vec<usize>> {
    let remove = scores.len().checked_sub(keep)?;
    if !pairs {
        return Some(complement(scores.len(), &keep_in_groups(scores, 1, keep)));
    }
    if !remove.is_multiple_of(2) {
        return None;
    }
    // best[layers][pairs]: the lowest sum of `pairs` disjoint pairs among the first `layers` layers.
    let pairs = remove / 2;
    let mut best = vec![vec![f64::INFINITY; pairs + 1]; scores.len() + 1];
    for layers in 0..=scores.len() {
        for taken in 0..=pairs {
            let value = if taken == 0 {
                0.0
            } else {
                let without = layers.checked_sub(1).map_or(f64::INFINITY, |before| at(&best, before, taken));
                with_pair(&best, scores, layers, taken).min(without)
            };
            if let Some(slot) = best.get_mut(layers).and_then(|row| row.get_mut(taken)) {
                *slot = value;
            }
        }
    }
    let (mut layers, mut taken) = (scores.len(), pairs);
    let mut removed = Vec::with_capacity(remove);
    while taken > 0 && layers >= 2 {
        if with_pair(&best, scores, layers, taken) <= at(&best, layers - 1, taken) {
            removed.extend([layers - 1, layers - 2]);
            layers -= 2;
            taken -= 1;
        } else {
            layers -= 1;
        }
    }
    removed.reverse();
    Some(removed)
}

fn at(best: &[Vec<f64>], layers: usize, taken: usize) -> f64 {
    best.get(layers).and_then(|row| row.get(taken)).copied().unwrap_or(f64::INFINITY)
}

/// The lowest sum in which the last two of the first `layers` layers go.
fn with_pair(best: &[Vec<f64>], scores: &[f64], layers: usize, taken: usize) -> f64 {
    let pair = layers.checked_sub(2).and_then(|start| scores.get(start..layers));
    match (pair, taken.checked_sub(1)) {
        (Some(&[first, second]), Some(before)) => at(best, layers - 2, before) + first + second,
        _ => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_layers_go_or_the_lowest_pairs() {
        let scores = [5.0, 0.0, 9.0, 1.0, 2.0, 8.0];
        assert_eq!(removed_layers(&scores, 4, false), Some(vec![1, 3]));
        assert_eq!(removed_layers(&scores, 4, true), Some(vec![3, 4]));
        assert_eq!(removed_layers(&scores, 2, true), Some(vec![0, 1, 3, 4]));
        assert_eq!(removed_layers(&scores, 6, true), Some(vec![]));
        assert_eq!(removed_layers(&scores, 3, true), None);
        assert_eq!(removed_layers(&scores, 7, true), None);
    }

    #[test]
    fn equal_scores_keep_the_first_layers() {
        assert_eq!(removed_layers(&[1.0; 6], 2, true), Some(vec![2, 3, 4, 5]));
        assert_eq!(removed_layers(&[1.0; 4], 2, false), Some(vec![2, 3]));
    }

    #[test]
    fn pairs_are_the_best_of_all_choices() {
        let mut state = 7_u64;
        for _ in 0..200 {
            let scores: Vec<f64> = (0..8)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 40) as f64
                })
                .collect();
            let sum = |layers: &[usize]| layers.iter().map(|&layer| scores[layer]).sum::<f64>();
            let all = (0..7).flat_map(|a| (a + 2..7).map(move |b| [a, a + 1, b, b + 1]));
            let lowest = all.map(|layers| sum(&layers)).fold(f64::INFINITY, f64::min);
            assert_eq!(sum(&removed_layers(&scores, 4, true).unwrap()), lowest);
        }
    }
}
