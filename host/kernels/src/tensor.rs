//! Dense f32 tensors of rank 1 to 3 and the reductions that scoring policies need.
//!
//! Reductions over rows treat the last axis as columns and everything before it as rows (tokens), sum in f64 and give
//! one value per column.

use crate::KernelError;
use crate::error::check_length;

/// Values with a shape, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Tensor {
    /// A tensor of `values` in `shape`.
    ///
    /// # Errors
    /// When the rank is not 1 to 3 or the number of values is not the product of the shape.
    pub fn new(shape: Vec<usize>, values: Vec<f32>) -> Result<Self, KernelError> {
        let product = shape.iter().try_fold(1usize, |product, axis| product.checked_mul(*axis));
        let Some(expected) = product.filter(|_| (1..=3).contains(&shape.len())) else {
            let reason = format!("{shape:?} is not a shape of rank 1 to 3");
            return Err(KernelError::Shape { what: "tensor", reason });
        };
        check_length("the values of a tensor", values.len(), expected)?;
        Ok(Self { shape, values })
    }

    /// A tensor of rank 1.
    pub fn from_vec(values: Vec<f32>) -> Self {
        Self { shape: vec![values.len()], values }
    }

    /// The length of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The values, without the shape.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// Bytes of the values, for quotas.
    pub fn bytes(&self) -> usize {
        self.values.len() * size_of::<f32>()
    }

    /// Length of the last axis.
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or_default()
    }

    /// Product of the axes before the last.
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.columns()).unwrap_or_default()
    }

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
        let (rows, columns) = (self.rows() as f64, self.columns().max(1));
        let mut means = vec![0.0f64; self.columns()];
        self.for_each_row(|row| {
            means.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value) / rows)
        });
        let mut sums = vec![0.0f64; self.columns()];
        for row in self.values.chunks_exact(columns) {
            for ((sum, mean), value) in sums.iter_mut().zip(&means).zip(row) {
                *sum += (f64::from(*value) - mean).powi(2);
            }
        }
        Self::from_vec(sums.into_iter().map(|sum| (sum / rows) as f32).collect())
    }

    /// Euclidean norms of each `group` consecutive columns of every row: `[…, columns/group]`.
    ///
    /// # Errors
    /// When `group` is 0 or does not divide the columns.
    pub fn grouped_l2_norm(&self, group: usize) -> Result<Self, KernelError> {
        if group == 0 || !self.columns().is_multiple_of(group) {
            let reason = format!("{} columns do not divide into groups of {group}", self.columns());
            return Err(KernelError::Shape { what: "grouped norm", reason });
        }
        let norm =
            |group: &[f32]| group.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt() as f32;
        let values = self.values.chunks_exact(group).map(norm).collect();
        let mut shape = self.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last /= group;
        }
        Ok(Self { shape, values })
    }

    /// The indices and values of the `count` largest values, largest first, ties by lower index; NaNs come last.
    pub fn top_k(&self, count: usize) -> Vec<(usize, f32)> {
        let mut order: Vec<(usize, f32)> = self.values.iter().copied().enumerate().collect();
        let key = |value: f32| if value.is_nan() { f32::NEG_INFINITY } else { value };
        let compare = |a: &(usize, f32), b: &(usize, f32)| key(b.1).total_cmp(&key(a.1)).then(a.0.cmp(&b.0));
        let count = count.min(order.len());
        if count > 0 && count < order.len() {
            order.select_nth_unstable_by(count - 1, compare);
        }
        order.truncate(count);
        order.sort_unstable_by(compare);
        order
    }

    /// `self + other`, element by element.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn add(&self, other: &Self) -> Result<Self, KernelError> {
        self.combine(other, |a, b| a + b)
    }

    /// `self · other`, element by element.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn mul(&self, other: &Self) -> Result<Self, KernelError> {
        self.combine(other, |a, b| a * b)
    }

    /// Every value times `factor`.
    #[must_use]
    pub fn scale(&self, factor: f32) -> Self {
        self.map(|value| value * factor)
    }

    /// The square root of every value.
    #[must_use]
    pub fn sqrt(&self) -> Self {
        self.map(f32::sqrt)
    }

    /// The magnitude of every value.
    #[must_use]
    pub fn abs(&self) -> Self {
        self.map(f32::abs)
    }

    fn map(&self, function: impl Fn(f32) -> f32) -> Self {
        Self { shape: self.shape.clone(), values: self.values.iter().map(|value| function(*value)).collect() }
    }

    fn combine(&self, other: &Self, function: impl Fn(f32, f32) -> f32) -> Result<Self, KernelError> {
        if self.shape != other.shape {
            let reason = format!("{:?} against {:?}", self.shape, other.shape);
            return Err(KernelError::Shape { what: "element-wise operand", reason });
        }
        let values = self.values.iter().zip(&other.values).map(|(a, b)| function(*a, *b)).collect();
        Ok(Self { shape: self.shape.clone(), values })
    }

    fn for_each_row(&self, row: impl FnMut(&[f32])) {
        self.values.chunks_exact(self.columns().max(1)).for_each(row);
    }

    fn fold_rows(&self, divisor: f64, term: impl Fn(f64) -> f64) -> Self {
        let mut sums = vec![0.0f64; self.columns()];
        self.for_each_row(|row| {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += term(f64::from(*value)));
        });
        Self::from_vec(sums.into_iter().map(|sum| (sum / divisor) as f32).collect())
    }
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
        assert_eq!((tensor.rows(), tensor.columns(), tensor.bytes()), (4, 2, 32));
        assert_eq!(tensor.sum().values(), [16.0, -20.0]);
        assert_eq!(tensor.mean().values(), [4.0, -5.0]);
        assert_eq!(tensor.mean_abs().values(), [4.0, 5.0]);
        assert_eq!(tensor.sum_squares().values(), [84.0, 120.0]);
        assert_eq!(tensor.l2_norm().values(), [84.0f32.sqrt(), 120.0f32.sqrt()]);
        assert_eq!(tensor.variance().values(), [5.0, 5.0]);
    }

    #[test]
    fn groups_are_consecutive_columns() {
        let tensor = Tensor::new(vec![1, 4], vec![3.0, 4.0, 0.0, -2.0]).unwrap();
        let norms = tensor.grouped_l2_norm(2).unwrap();
        assert_eq!((norms.shape(), norms.values()), ([1, 2].as_slice(), [5.0, 2.0].as_slice()));
        assert!(tensor.grouped_l2_norm(3).is_err());
        assert!(tensor.grouped_l2_norm(0).is_err());
    }

    #[test]
    fn top_k_orders_ties_and_nans() {
        let tensor = Tensor::from_vec(vec![1.0, f32::NAN, 3.0, 3.0, 2.0]);
        assert_eq!(tensor.top_k(3), [(2, 3.0), (3, 3.0), (4, 2.0)]);
        assert_eq!(tensor.top_k(99).len(), 5);
        assert!(tensor.top_k(0).is_empty());
    }

    #[test]
    fn element_wise_operations_check_shapes() {
        let tensor = sample();
        assert_eq!(tensor.add(&tensor).unwrap(), tensor.scale(2.0));
        assert_eq!(tensor.mul(&tensor).unwrap().sqrt(), tensor.abs());
        assert!(tensor.add(&tensor.sum()).is_err());
        assert!(Tensor::new(vec![], vec![]).is_err());
        assert!(Tensor::new(vec![2, 2], vec![0.0; 3]).is_err());
        assert!(Tensor::new(vec![usize::MAX, 3], vec![]).is_err());
    }
}
