//! Second moments of activations, added up as they stream by: `C = Σ x xᵀ` over all rows x seen so far.
//!
//! The products of one addition are computed in f32 by the exact path, and additions are summed in f64. Memory is that of
//! one square matrix in f64, and one in f32 while rows are added.

use super::{Cpu, Precision};
use crate::error::check_length;
use crate::{KernelError, Matrix};

/// Rows whose products are summed in f32 before they go to the sums in f64.
const ROWS_AT_ONCE: usize = 512;

/// The uncentred covariance of rows of `width` values, times their number.
#[derive(Clone, Debug)]
pub struct Covariance {
    width: usize,
    rows: u64,
    sums: Vec<f64>,
}

impl Covariance {
    /// Of no rows yet.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { width, rows: 0, sums: vec![0.0; width * width] }
    }

    /// Values in a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows seen.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// `Σ x_i x` over the rows: row i of the symmetric matrix, empty beyond it.
    #[must_use]
    pub fn row(&self, index: usize) -> &[f64] {
        self.sums.get(index * self.width..(index + 1) * self.width).unwrap_or_default()
    }

    /// The mean of the diagonal: the mean square of a value times the number of rows.
    #[must_use]
    pub fn mean_square(&self) -> f64 {
        self.sums.iter().step_by(self.width + 1).sum::<f64>() / self.width.max(1) as f64
    }

    /// Adds rows, `n × width` values.
    ///
    /// # Errors
    /// When the values are no whole rows.
    pub fn add(&mut self, cpu: &Cpu, rows: &[f32]) -> Result<(), KernelError> {
        let whole = rows.len() - rows.len().checked_rem(self.width).unwrap_or(0);
        check_length("the rows of a covariance", rows.len(), whole)?;
        if self.width == 0 {
            return Ok(());
        }
        let mut products = vec![0.0_f32; self.sums.len()];
        for rows in rows.chunks(ROWS_AT_ONCE * self.width) {
            let count = rows.len() / self.width;
            let columns = transposed(rows, self.width);
            let matrix = Matrix::from_f32(self.width, count, &columns)?;
            cpu.matmul(&matrix, &cpu.activations(&columns, count, Precision::Exact)?, &mut products)?;
            for (sum, product) in self.sums.iter_mut().zip(&products) {
                *sum += f64::from(*product);
            }
            self.rows += count as u64;
        }
        Ok(())
    }
}

fn transposed(rows: &[f32], width: usize) -> Vec<f32> {
    let column = |index: usize| rows.iter().skip(index).step_by(width).copied();
    (0..width).flat_map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covariances_are_sums_of_outer_products() {
        let cpu = Cpu::new(2).unwrap();
        let width = 37;
        // Small integers, whose sums are exact.
        let rows: Vec<f32> =
            (0..width * 1100).map(|index| ((index * 7 + index / 5) % 11) as f32 - 5.0).collect();
        let mut covariance = Covariance::new(width);
        for part in rows.chunks(width * 600) {
            covariance.add(&cpu, part).unwrap();
        }
        assert_eq!(covariance.rows(), 1100);
        for i in 0..width {
            let expected: Vec<f64> = (0..width)
                .map(|j| rows.chunks(width).map(|row| f64::from(row[i]) * f64::from(row[j])).sum())
                .collect();
            assert_eq!(covariance.row(i), expected);
        }
        let diagonal: f64 = (0..width).map(|i| covariance.row(i)[i]).sum();
        assert_eq!(covariance.mean_square(), diagonal / width as f64);
        assert!(covariance.add(&cpu, &rows[..width + 1]).is_err());
    }
}
