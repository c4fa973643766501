//! Reductions over columns: one value for each row, and what scales whole rows or columns.

use super::{Tensor, mismatch};
use crate::KernelError;

impl Tensor {
    /// Per row, the sum over columns.
    pub fn row_sum(&self) -> Self {
        self.fold_columns(|row| row.iter().copied().map(f64::from).sum())
    }

    /// Per row, the Euclidean norm over columns.
    pub fn row_l2_norm(&self) -> Self {
        self.fold_columns(|row| dot(row, row).sqrt())
    }

    /// Per row, the entropy `-Σ p ln p` in nats of its values as they are; what is not above 0 adds nothing.
    pub fn row_entropy(&self) -> Self {
        let term = |value: &f32| {
            let share = f64::from(*value);
            if share > 0.0 { -share * share.ln() } else { 0.0 }
        };
        self.fold_columns(|row| row.iter().map(term).sum())
    }

    /// Per row, the sum of the products with the same row of `other`.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn row_dot(&self, other: &Self) -> Result<Self, KernelError> {
        self.fold_pairs(other, dot)
    }

    /// Per row, the cosine of the angle to the same row of `other`; 0 where one of them is all zeros.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn row_cosine(&self, other: &Self) -> Result<Self, KernelError> {
        self.fold_pairs(other, |a, b| {
            let norms = (dot(a, a) * dot(b, b)).sqrt();
            if norms == 0.0 { 0.0 } else { dot(a, b) / norms }
        })
    }

    /// Every row times its factor.
    ///
    /// # Errors
    /// When there is not one factor for each row.
    pub fn scale_rows(&self, factors: &Self) -> Result<Self, KernelError> {
        expect_length("factors of rows", factors, self.rows())?;
        let scaled = self.each_row().zip(factors.values());
        let values = scaled.flat_map(|(row, factor)| row.iter().map(move |value| value * factor)).collect();
        Self::new(self.shape().to_vec(), values)
    }

    /// Every column times its factor.
    ///
    /// # Errors
    /// When there is not one factor for each column.
    pub fn scale_columns(&self, factors: &Self) -> Result<Self, KernelError> {
        expect_length("factors of columns", factors, self.columns())?;
        let scaled =
            |row: &[f32]| -> Vec<f32> { row.iter().zip(factors.values()).map(|(a, b)| a * b).collect() };
        Self::new(self.shape().to_vec(), self.each_row().flat_map(scaled).collect())
    }

    /// `count` columns from `first` on: `[…, count]`.
    ///
    /// # Errors
    /// When the tensor has fewer.
    pub fn select_columns(&self, first: usize, count: usize) -> Result<Self, KernelError> {
        let columns = self.columns();
        let end = first.checked_add(count).filter(|end| *end <= columns).ok_or_else(|| {
            mismatch("columns", format!("{count} from {first} on, expected a range of {columns}"))
        })?;
        let selected = self.each_row().flat_map(|row| row.get(first..end).unwrap_or_default());
        Self::new(self.shape_with_columns(count), selected.copied().collect())
    }

    fn fold_columns(&self, fold: impl Fn(&[f32]) -> f64) -> Self {
        Self::from_vec(self.each_row().map(|row| fold(row) as f32).collect())
    }

    fn fold_pairs(&self, other: &Self, fold: impl Fn(&[f32], &[f32]) -> f64) -> Result<Self, KernelError> {
        if self.shape() != other.shape() {
            return Err(mismatch(
                "row-wise operand",
                format!("{:?} against {:?}", self.shape(), other.shape()),
            ));
        }
        Ok(Self::from_vec(self.each_row().zip(other.each_row()).map(|(a, b)| fold(a, b) as f32).collect()))
    }
}

fn expect_length(what: &'static str, factors: &Tensor, expected: usize) -> Result<(), KernelError> {
    match factors.values().len() {
        found if found == expected => Ok(()),
        found => Err(mismatch(what, format!("{found}, expected {expected}"))),
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Tensor {
        Tensor::new(vec![2, 2], vec![3.0, 4.0, 0.0, 0.0]).unwrap()
    }

    #[test]
    fn reductions_run_over_columns() {
        let tensor = sample();
        assert_eq!(tensor.row_sum().values(), [7.0, 0.0]);
        assert_eq!(tensor.row_l2_norm().values(), [5.0, 0.0]);
        let shares = Tensor::new(vec![2, 2], vec![0.5, 0.5, 1.0, 0.0]).unwrap();
        assert_eq!(shares.row_entropy().values(), [std::f32::consts::LN_2, 0.0]);
    }

    #[test]
    fn cosines_of_nothing_are_zero() {
        let other = Tensor::new(vec![2, 2], vec![-4.0, 3.0, 1.0, 1.0]).unwrap();
        assert_eq!(sample().row_dot(&other).unwrap().values(), [0.0, 0.0]);
        assert_eq!(sample().row_cosine(&sample()).unwrap().values(), [1.0, 0.0]);
        assert_eq!(sample().row_cosine(&sample().scale(-2.0)).unwrap().values(), [-1.0, 0.0]);
        assert!(sample().row_cosine(&Tensor::from_vec(vec![1.0])).is_err());
    }

    #[test]
    fn rows_and_columns_are_scaled_and_selected() {
        let tensor = Tensor::new(vec![2, 2], vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        let factors = Tensor::from_vec(vec![10.0, -1.0]);
        assert_eq!(tensor.scale_rows(&factors).unwrap().values(), [10.0, 20.0, -3.0, -4.0]);
        assert_eq!(tensor.scale_columns(&factors).unwrap().values(), [10.0, -2.0, 30.0, -4.0]);
        assert!(tensor.scale_rows(&Tensor::from_vec(vec![1.0])).is_err());
        let second = tensor.select_columns(1, 1).unwrap();
        assert_eq!((second.shape(), second.values()), ([2, 1].as_slice(), [2.0, 4.0].as_slice()));
        assert!(tensor.select_columns(1, 2).is_err());
        assert!(tensor.select_columns(usize::MAX, 2).is_err());
    }
}
