//! Which experts each token passes through, and the order in which the experts' products run.

use std::ops::Range;

/// The tokens of one expert: consecutive rows of the grouped input.
#[derive(Debug, PartialEq)]
pub struct ExpertRows {
    /// Which expert.
    pub expert: usize,
    /// Its rows.
    pub rows: Range<usize>,
}

/// A batch's tokens, grouped by expert.
#[derive(Debug, PartialEq)]
pub struct Routing {
    /// The experts that have tokens, ascending.
    pub groups: Vec<ExpertRows>,
    /// The token of every grouped row.
    pub tokens: Vec<usize>,
    /// Per token, its experts in ascending order: the grouped row and the weight of the expert's output.
    pub mixture: Vec<(usize, f32)>,
}

impl Routing {
    /// Takes each token's `active` largest router logits of `experts` and the softmax over them, as gpt-oss does
    /// (`modeling_gpt_oss.py`, `GptOssTopKRouter`). Of equal logits the lower expert is taken.
    pub fn new(logits: &[f32], experts: usize, active: usize) -> Self {
        let chosen: Vec<(usize, f32)> =
            logits.chunks_exact(experts.max(1)).flat_map(|logits| choose(logits, active)).collect();
        let mut counts = vec![0; experts];
        for (expert, _) in &chosen {
            if let Some(count) = counts.get_mut(*expert) {
                *count += 1;
            }
        }
        let mut next = Vec::with_capacity(experts);
        let (mut groups, mut end) = (Vec::new(), 0);
        for (expert, count) in counts.into_iter().enumerate() {
            next.push(end);
            if count > 0 {
                groups.push(ExpertRows { expert, rows: end..end + count });
            }
            end += count;
        }
        let mut tokens = vec![0; chosen.len()];
        let mut mixture = Vec::with_capacity(chosen.len());
        for (index, (expert, weight)) in chosen.into_iter().enumerate() {
            if let Some(row) = next.get_mut(expert) {
                if let Some(token) = tokens.get_mut(*row) {
                    *token = index / active.max(1);
                }
                mixture.push((*row, weight));
                *row += 1;
            }
        }
        Self { groups, tokens, mixture }
    }

    /// `[tokens, experts]`: `value` of the grouped row and the weight where a token meets an expert, 0 elsewhere.
    pub(super) fn by_expert(&self, experts: usize, value: impl Fn(usize, f32) -> f32) -> Vec<f32> {
        let tokens = self.tokens.iter().max().map_or(0, |last| last + 1);
        let mut values = vec![0.0; tokens * experts];
        for (row, weight) in &self.mixture {
            let group = self.groups.iter().find(|group| group.rows.contains(row));
            let place = group.zip(self.tokens.get(*row)).map(|(group, token)| token * experts + group.expert);
            if let Some(slot) = place.and_then(|place| values.get_mut(place)) {
                *slot = value(*row, *weight);
            }
        }
        values
    }
}

/// The experts of one token, ascending, and their weights.
fn choose(logits: &[f32], active: usize) -> Vec<(usize, f32)> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    let value = |index: usize| logits.get(index).copied().unwrap_or(f32::NEG_INFINITY);
    order.sort_by(|&a, &b| value(b).total_cmp(&value(a)));
    order.truncate(active);
    let largest = order.first().map_or(0.0, |&expert| value(expert));
    order.sort_unstable();
    let exponentials: Vec<f32> = order.iter().map(|&expert| (value(expert) - largest).exp()).collect();
    let sum: f32 = exponentials.iter().sum();
    order.into_iter().zip(exponentials).map(|(expert, value)| (expert, value / sum)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_logits_are_chosen_and_weigh_one_together() {
        let chosen = choose(&[1.0, 3.0, 2.0, 3.0, -1.0], 3);
        let experts: Vec<usize> = chosen.iter().map(|(expert, _)| *expert).collect();
        assert_eq!(experts, [1, 2, 3]);
        let e = (-1.0f32).exp();
        for ((_, weight), expected) in chosen.iter().zip([1.0, e, 1.0]) {
            assert!((weight - expected / (2.0 + e)).abs() < 1e-6);
        }
        assert_eq!(choose(&[5.0, 5.0, 5.0], 1), [(0, 1.0)]);
    }

    #[test]
    fn tokens_are_grouped_by_expert() {
        let logits = [[9.0, 0.0, 8.0, 0.0], [0.0, 0.0, 9.0, 8.0]].concat();
        let routing = Routing::new(&logits, 4, 2);
        let groups: Vec<(usize, Range<usize>)> =
            routing.groups.iter().map(|group| (group.expert, group.rows.clone())).collect();
        assert_eq!(groups, [(0, 0..1), (2, 1..3), (3, 3..4)]);
        assert_eq!(routing.tokens, [0, 0, 1, 1]);
        let rows: Vec<usize> = routing.mixture.iter().map(|(row, _)| *row).collect();
        assert_eq!(rows, [0, 1, 2, 3]);
        assert_eq!(routing.by_expert(4, |row, _| row as f32 + 1.0), [1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 3.0, 4.0]);
    }
}
