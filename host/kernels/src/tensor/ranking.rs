//! The largest values, ranks, and votes of rows for columns.

use std::cmp::Ordering;

use super::{Tensor, mismatch};
use crate::KernelError;

impl Tensor {
    /// The indices and values of the `count` largest values, largest first, ties by lower index; NaNs come last.
    pub fn top_k(&self, count: usize) -> Vec<(usize, f32)> {
        largest(self.values().iter().copied().enumerate().collect(), count)
    }

    /// Per column, how many rows have it among the `count` largest of the columns that are not `excluded`; of equal
    /// values the lower column counts first. Columns that are not there are excluded without effect.
    pub fn count_largest(&self, count: usize, excluded: &[usize]) -> Self {
        let columns = self.columns();
        let mut is_excluded = vec![false; columns];
        for index in excluded {
            if let Some(excluded) = is_excluded.get_mut(*index) {
                *excluded = true;
            }
        }
        let mut counts = vec![0.0f32; columns];
        for row in self.each_row() {
            let values = row.iter().copied().enumerate().zip(&is_excluded);
            let candidates = values.filter_map(|(candidate, excluded)| (!excluded).then_some(candidate));
            for (index, _) in largest(candidates.collect(), count) {
                if let Some(count) = counts.get_mut(index) {
                    *count += 1.0;
                }
            }
        }
        Self::from_vec(counts)
    }

    /// The rank of every value inside its group of `group` consecutive columns: 0 for the smallest, ties by lower index,
    /// NaNs as the smallest.
    ///
    /// # Errors
    /// When `group` is 0 or does not divide the columns.
    pub fn rank_in_groups(&self, group: usize) -> Result<Self, KernelError> {
        if group == 0 || !self.columns().is_multiple_of(group) {
            let reason = format!("{} columns do not divide into groups of {group}", self.columns());
            return Err(mismatch("groups", reason));
        }
        let mut values = vec![0.0; self.values().len()];
        for (values, ranks) in self.values().chunks_exact(group).zip(values.chunks_exact_mut(group)) {
            let mut order: Vec<(usize, f32)> = values.iter().copied().enumerate().collect();
            order.sort_unstable_by(|a, b| key(a.1).total_cmp(&key(b.1)).then(a.0.cmp(&b.0)));
            for (rank, (index, _)) in order.into_iter().enumerate() {
                if let Some(slot) = ranks.get_mut(index) {
                    *slot = rank as f32;
                }
            }
        }
        Self::new(self.shape().to_vec(), values)
    }
}

fn largest(mut order: Vec<(usize, f32)>, count: usize) -> Vec<(usize, f32)> {
    let count = count.min(order.len());
    if count > 0 && count < order.len() {
        order.select_nth_unstable_by(count - 1, largest_first);
    }
    order.truncate(count);
    order.sort_unstable_by(largest_first);
    order
}

fn largest_first(a: &(usize, f32), b: &(usize, f32)) -> Ordering {
    key(b.1).total_cmp(&key(a.1)).then(a.0.cmp(&b.0))
}

/// NaN is smaller than everything.
fn key(value: f32) -> f32 {
    if value.is_nan() { f32::NEG_INFINITY } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_k_orders_ties_and_nans() {
        let tensor = Tensor::from_vec(vec![1.0, f32::NAN, 3.0, 3.0, 2.0]);
        assert_eq!(tensor.top_k(3), [(2, 3.0), (3, 3.0), (4, 2.0)]);
        assert_eq!(tensor.top_k(99).len(), 5);
        assert!(tensor.top_k(0).is_empty());
    }

    #[test]
    fn rows_vote_for_their_largest_columns() {
        let tensor = Tensor::new(vec![2, 4], vec![4.0, 3.0, 2.0, 1.0, 0.0, 5.0, 5.0, 5.0]).unwrap();
        assert_eq!(tensor.count_largest(2, &[]).values(), [1.0, 2.0, 1.0, 0.0]);
        assert_eq!(tensor.count_largest(2, &[1]).values(), [1.0, 0.0, 2.0, 1.0]);
        assert_eq!(tensor.count_largest(2, &[0, 1, 2, 9]).values(), [0.0, 0.0, 0.0, 2.0]);
        assert_eq!(tensor.count_largest(0, &[]).values(), [0.0; 4]);
    }

    #[test]
    fn ranks_begin_anew_in_each_group() {
        let tensor = Tensor::from_vec(vec![3.0, 1.0, 1.0, 9.0, f32::NAN, 2.0]);
        assert_eq!(tensor.rank_in_groups(3).unwrap().values(), [2.0, 0.0, 1.0, 2.0, 0.0, 1.0]);
        assert!(tensor.rank_in_groups(4).is_err());
        assert!(tensor.rank_in_groups(0).is_err());
    }
}
