//! Reductions over rows: one value for each column, or for each group of columns in every row.

use super::{Tensor, mismatch};
use crate::KernelError;

impl Tensor {
    /// Per column, the sum over rows.
    pub fn sum(&self) -> Self {
        self.fold_rows(1.0, |value| value)
    }

    /// Per column, the mean over rows.
    pub fn mean(&self) -> Self {
        self.fold_rows(self.rows() as f64, |value| value)
    }

    /// Per column, the mean magnitude over rows.
    pub fn mean_abs(&self) -> Self {
        self.fold_rows(self.rows() as f64, f64::abs)
    }

    /// Per column, the sum of squares over rows.
    pub fn sum_squares(&self) -> Self {
        self.fold_rows(1.0, |value| value * value)
    }

    /// Per column, the Euclidean norm over rows.
    pub fn l2_norm(&self) -> Self {
        self.sum_squares().sqrt()
    }

    /// Per column, the population variance over rows (two passes).
    pub fn variance(&self) -> Self {
        let rows = self.rows() as f64;
        let mut means = vec![0.0f64; self.columns()];
        for row in self.each_row() {
            means.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value) / rows);
        }
        let mut sums = vec![0.0f64; self.columns()];
        for row in self.each_row() {
            for ((sum, mean), value) in sums.iter_mut().zip(&means).zip(row) {
                *sum += (f64::from(*value) - mean).powi(2);
            }
        }
        Self::from_vec(sums.into_iter().map(|sum| (sum / rows) as f32).collect())
    }

    /// Per column, the value below which the share `level` of its rows lies, between two rows by linear interpolation
    /// (Hyndman and Fan's definition 7, NumPy's `quantile`). NaNs count as the largest values; 0 without rows.
    ///
    /// # Errors
    /// When `level` is not between 0 and 1.
    pub fn quantile(&self, level: f64) -> Result<Self, KernelError> {
        if !(0.0..=1.0).contains(&level) {
            return Err(mismatch("quantile", format!("the level {level}, expected 0 to 1")));
        }
        let rows = self.rows();
        let place = level * rows.saturating_sub(1) as f64;
        let (below, share) = (place.floor() as usize, place.fract());
        let mut column = Vec::with_capacity(rows);
        let values = (0..self.columns()).map(|index| {
            column.clear();
            column.extend(self.each_row().filter_map(|row| row.get(index).copied()));
            if column.is_empty() {
                return 0.0;
            }
            let (_, lower, above) = column.select_nth_unstable_by(below, order_with_nans_last);
            let lower = f64::from(*lower);
            let upper = above.iter().copied().min_by(order_with_nans_last).map_or(lower, f64::from);
            if share == 0.0 { lower as f32 } else { (lower + share * (upper - lower)) as f32 }
        });
        Ok(Self::from_vec(values.collect()))
    }

    /// Per column, how many rows have a magnitude below the row's threshold; `thresholds` has one value for each row or
    /// one for all.
    ///
    /// # Errors
    /// When the thresholds are neither.
    pub fn count_below(&self, thresholds: &Self) -> Result<Self, KernelError> {
        let found = thresholds.values().len();
        if found != 1 && found != self.rows() {
            let reason = format!("{found} for {} rows, expected one for each or one for all", self.rows());
            return Err(mismatch("thresholds", reason));
        }
        let mut counts = vec![0.0f32; self.columns()];
        for (row, threshold) in self.each_row().zip(thresholds.values().iter().cycle()) {
            for (count, value) in counts.iter_mut().zip(row) {
                *count += if value.abs() < *threshold { 1.0 } else { 0.0 };
            }
        }
        Ok(Self::from_vec(counts))
    }

    /// Euclidean norms of each `group` consecutive columns of every row: `[…, columns/group]`.
    ///
    /// # Errors
    /// When `group` is 0 or does not divide the columns.
    pub fn grouped_l2_norm(&self, group: usize) -> Result<Self, KernelError> {
        self.fold_groups(group, |group| {
            group.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
        })
    }

    /// Sums of each `group` consecutive columns of every row: `[…, columns/group]`.
    ///
    /// # Errors
    /// When `group` is 0 or does not divide the columns.
    pub fn grouped_sum(&self, group: usize) -> Result<Self, KernelError> {
        self.fold_groups(group, |group| group.iter().copied().map(f64::from).sum())
    }

    fn fold_groups(&self, group: usize, fold: impl Fn(&[f32]) -> f64) -> Result<Self, KernelError> {
        let columns = self.columns();
        if group == 0 || !columns.is_multiple_of(group) {
            return Err(mismatch(
                "groups",
                format!("{columns} columns do not divide into groups of {group}"),
            ));
        }
        let values = self.values().chunks_exact(group).map(|group| fold(group) as f32).collect();
        Self::new(self.shape_with_columns(columns / group), values)
    }

    fn fold_rows(&self, divisor: f64, term: impl Fn(f64) -> f64) -> Self {
        let mut sums = vec![0.0f64; self.columns()];
        for row in self.each_row() {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += term(f64::from(*value)));
        }
        Self::from_vec(sums.into_iter().map(|sum| (sum / divisor) as f32).collect())
    }
}

fn order_with_nans_last(a: &f32, b: &f32) -> std::cmp::Ordering {
    a.is_nan().cmp(&b.is_nan()).then(a.total_cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Tensor {
        Tensor::new(vec![2, 2, 2], vec![1.0, -2.0, 3.0, -4.0, 5.0, -6.0, 7.0, -8.0]).unwrap()
    }

    #[test]
    fn reductions_run_over_rows() {
        let tensor = sample();
        assert_eq!(tensor.sum().values(), [16.0, -20.0]);
        assert_eq!(tensor.mean().values(), [4.0, -5.0]);
        assert_eq!(tensor.mean_abs().values(), [4.0, 5.0]);
        assert_eq!(tensor.sum_squares().values(), [84.0, 120.0]);
        assert_eq!(tensor.l2_norm().values(), [84.0f32.sqrt(), 120.0f32.sqrt()]);
        assert_eq!(tensor.variance().values(), [5.0, 5.0]);
    }

    #[test]
    fn quantiles_interpolate_between_rows() {
        let tensor = sample();
        assert_eq!(tensor.quantile(0.0).unwrap().values(), [1.0, -8.0]);
        assert_eq!(tensor.quantile(0.5).unwrap().values(), [4.0, -5.0]);
        assert_eq!(tensor.quantile(0.25).unwrap().values(), [2.5, -6.5]);
        assert_eq!(tensor.quantile(1.0).unwrap().values(), [7.0, -2.0]);
        assert!(tensor.quantile(f64::NAN).is_err());
        let with_nan = Tensor::new(vec![3, 1], vec![f32::NAN, 1.0, 2.0]).unwrap();
        assert_eq!(with_nan.quantile(0.5).unwrap().values(), [2.0]);
        assert_eq!(Tensor::new(vec![0, 2], vec![]).unwrap().quantile(0.5).unwrap().values(), [0.0, 0.0]);
    }

    #[test]
    fn counts_have_a_threshold_for_each_row_or_for_all() {
        let tensor = sample();
        let all = Tensor::from_vec(vec![5.0]);
        assert_eq!(tensor.count_below(&all).unwrap().values(), [2.0, 2.0]);
        let each = Tensor::from_vec(vec![2.0, 0.0, 6.0, 9.0]);
        assert_eq!(tensor.count_below(&each).unwrap().values(), [3.0, 1.0]);
        assert!(tensor.count_below(&Tensor::from_vec(vec![1.0; 3])).is_err());
    }

    #[test]
    fn groups_are_consecutive_columns() {
        let tensor = Tensor::new(vec![1, 4], vec![3.0, 4.0, 0.0, -2.0]).unwrap();
        let norms = tensor.grouped_l2_norm(2).unwrap();
        assert_eq!((norms.shape(), norms.values()), ([1, 2].as_slice(), [5.0, 2.0].as_slice()));
        assert_eq!(tensor.grouped_sum(2).unwrap().values(), [7.0, -2.0]);
        assert!(tensor.grouped_l2_norm(3).is_err());
        assert!(tensor.grouped_l2_norm(0).is_err());
    }
}
