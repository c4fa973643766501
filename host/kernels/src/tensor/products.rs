//! Products of matrices, for statistics of activations. Sums run in f64.
//!
//! Tiles of the result stay in the first-level cache while all rows pass, so that a product costs its arithmetic.

use super::{Tensor, mismatch};
use crate::KernelError;

/// Rows and columns of a tile: 64² sums of 8 bytes are 32 KiB.
const TILE: usize = 64;

impl Tensor {
    /// How many multiplications `self · other` takes; `None` when they do not fit.
    pub fn product_cost(&self, other: &Self) -> Option<u64> {
        let (rows, inner, columns) = (self.rows() as u64, self.columns() as u64, other.columns() as u64);
        (self.columns() == other.rows()).then(|| rows.saturating_mul(inner).saturating_mul(columns))
    }

    /// The matrix product, with all axes but the last as rows: `[…, inner] · [inner, columns]` is `[…, columns]`.
    ///
    /// # Errors
    /// When the columns of `self` are not as many as the rows of `other`.
    pub fn matrix_product(&self, other: &Self) -> Result<Self, KernelError> {
        if self.columns() != other.rows() {
            let reason = format!("{} columns by {} rows", self.columns(), other.rows());
            return Err(mismatch("factors of a matrix product", reason));
        }
        let columns = other.columns();
        let mut values = Vec::with_capacity(self.rows() * columns);
        let mut sums = vec![0.0f64; columns];
        for row in self.each_row() {
            sums.fill(0.0);
            for (factor, other) in row.iter().zip(other.each_row()) {
                add_scaled(&mut sums, f64::from(*factor), other);
            }
            values.extend(sums.iter().map(|sum| *sum as f32));
        }
        Self::new(self.shape_with_columns(columns), values)
    }

    /// The sum over rows of each row's outer product with itself, `Xᵀ X`: `[columns, columns]`.
    pub fn gram(&self) -> Self {
        let columns = self.columns();
        let mut values = vec![0.0f32; columns * columns];
        let mut tile = vec![0.0f64; TILE * TILE];
        for top in (0..columns).step_by(TILE) {
            for left in (top..columns).step_by(TILE) {
                let (height, width) = (TILE.min(columns - top), TILE.min(columns - left));
                self.gram_tile((top, height), (left, width), &mut tile);
                for (y, sums) in tile.chunks_exact(TILE).take(height).enumerate() {
                    for (x, sum) in sums.iter().take(width).enumerate() {
                        values[(top + y) * columns + left + x] = *sum as f32;
                        values[(left + x) * columns + top + y] = *sum as f32;
                    }
                }
            }
        }
        Self { shape: vec![columns, columns], values }
    }

    fn gram_tile(&self, (top, height): (usize, usize), (left, width): (usize, usize), tile: &mut [f64]) {
        tile.fill(0.0);
        for row in self.each_row() {
            let (down, across) = (&row[top..top + height], &row[left..left + width]);
            for (sums, factor) in tile.chunks_exact_mut(TILE).zip(down) {
                add_scaled(&mut sums[..width], f64::from(*factor), across);
            }
        }
    }

    /// Rows as columns.
    ///
    /// # Errors
    /// When the rank is not 2.
    pub fn transpose(&self) -> Result<Self, KernelError> {
        let &[rows, columns] = self.shape() else {
            return Err(mismatch(
                "transposed tensor",
                format!("the shape {:?}, expected rank 2", self.shape()),
            ));
        };
        let column = |index: usize| self.values().iter().skip(index).step_by(columns.max(1)).copied();
        Self::new(vec![columns, rows], (0..columns).flat_map(column).collect())
    }

    /// The outer product of two tensors of rank 1: `[self, other]`.
    ///
    /// # Errors
    /// When one has another rank.
    pub fn outer(&self, other: &Self) -> Result<Self, KernelError> {
        let (&[rows], &[columns]) = (self.shape(), other.shape()) else {
            let reason = format!("{:?} and {:?}, expected rank 1", self.shape(), other.shape());
            return Err(mismatch("factors of an outer product", reason));
        };
        let values = self.values().iter().flat_map(|a| other.values().iter().map(move |b| a * b)).collect();
        Self::new(vec![rows, columns], values)
    }
}

fn add_scaled(sums: &mut [f64], factor: f64, values: &[f32]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += factor * f64::from(*value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers, whose sums are exact.
    fn matrix(rows: usize, columns: usize) -> Tensor {
        let values = (0..rows * columns).map(|index| ((index * 7 + index / 5) % 11) as f32 - 5.0).collect();
        Tensor::new(vec![rows, columns], values).unwrap()
    }

    #[test]
    fn a_gram_matrix_is_the_transposed_by_itself() {
        for columns in [1, 63, 64, 65, 130] {
            let tensor = matrix(9, columns);
            let expected = tensor.transpose().unwrap().matrix_product(&tensor).unwrap();
            assert_eq!(tensor.gram(), expected, "{columns} columns");
        }
    }

    #[test]
    fn products_are_sums_of_products() {
        let (a, b) = (matrix(3, 4), matrix(4, 2));
        let product = a.matrix_product(&b).unwrap();
        for (row, column) in [(0, 0), (1, 1), (2, 0)] {
            let expected: f32 = (0..4).map(|k| a.values()[row * 4 + k] * b.values()[k * 2 + column]).sum();
            assert_eq!(product.values()[row * 2 + column], expected);
        }
        assert_eq!((product.shape(), a.product_cost(&b)), ([3, 2].as_slice(), Some(24)));
        assert!(a.matrix_product(&a).is_err());
        assert_eq!(a.product_cost(&a), None);
        let vector = Tensor::from_vec(vec![1.0, 2.0]);
        assert_eq!(vector.outer(&vector).unwrap().values(), [1.0, 2.0, 2.0, 4.0]);
        assert!(vector.transpose().is_err());
    }
}
