//! What is left of a linear map when some of its inputs go: the weights on the others that change its output least.
//!
//! With the covariance `C = Σ x xᵀ` of the inputs, kept inputs S, weights W and `μ = ridge · mean diagonal of C`,
//!
//! ```text
//! W' = argmin Σ_x ‖W x − W' x_S‖² + μ ‖W' − W_S‖² = (W C_{:,S} + μ W_S) (C_{S,S} + μ I)⁻¹
//! ```
//!
//! which is the least-squares step of optimal brain surgeon applied to whole columns (Hassibi and Stork, 1993; SlimGPT,
//! arXiv 2412.18110), with a ridge towards the old weights. Everything runs in f64: the system is solved by Cholesky's
//! factorisation, block column by block column.

use super::instruction_set::versions;
use super::scatter::Scatter;
use super::{Covariance, Cpu, InstructionSet};
use crate::KernelError;
use crate::error::check_length;

/// Columns of the factor that are finished together.
const BLOCK: usize = 64;
/// Rows of one task.
const TASK_ROWS: usize = 8;
/// Independent sums of a dot product.
const SUMS: usize = 16;

impl Cpu {
    /// The weights `[rows, kept.len()]` that stand in for `weights` `[rows, covariance.width()]` when only the inputs `kept`,
    /// ascending, are left. `ridge` is relative to the inputs' mean square; it keeps the weights of rarely used inputs near
    /// where they were.
    ///
    /// # Errors
    /// Lengths that don't agree, an index beyond the inputs, or a covariance that is not positive definite even with the
    /// ridge (values that are not finite, or no ridge).
    pub fn refit(
        &self,
        covariance: &Covariance,
        kept: &[usize],
        weights: &[f32],
        ridge: f64,
    ) -> Result<Vec<f32>, KernelError> {
        let width = covariance.width();
        if let Some(&found) = kept.iter().find(|index| **index >= width) {
            return Err(KernelError::OutOfRange { what: "an input that stays", found, limit: width });
        }
        let rows = weights.len().checked_div(width).unwrap_or(0);
        check_length("the weights of a projection", weights.len(), rows * width)?;
        if kept.is_empty() || rows == 0 {
            return Ok(Vec::new());
        }
        let pull = ridge * covariance.mean_square();
        let mut factor = Vec::with_capacity(kept.len() * kept.len());
        for &index in kept {
            let row = covariance.row(index);
            factor.extend(kept.iter().map(|&other| row[other] + if other == index { pull } else { 0.0 }));
        }
        self.factorise(&mut factor, kept.len())?;
        let mut refit = vec![0.0_f32; rows * kept.len()];
        let parts = Scatter::new(&mut refit);
        let set = self.instruction_set();
        self.parallel(rows.div_ceil(TASK_ROWS), &|task| {
            let first = task * TASK_ROWS;
            let count = TASK_ROWS.min(rows - first);
            // SAFETY: each task names rows of its own.
            let refit = unsafe { parts.part(first * kept.len(), count * kept.len()) };
            let weights = &weights[first * width..(first + count) * width];
            for (refit, weights) in refit.chunks_exact_mut(kept.len()).zip(weights.chunks_exact(width)) {
                let old: Vec<f64> = weights.iter().map(|weight| f64::from(*weight)).collect();
                let mut row: Vec<f64> = vec![0.0; kept.len()];
                for (value, &index) in row.iter_mut().zip(kept) {
                    dot(set, &old, covariance.row(index), value);
                    *value += pull * old[index];
                }
                solve(set, &factor, &mut row);
                refit.iter_mut().zip(&row).for_each(|(refit, value)| *refit = *value as f32);
            }
        });
        Ok(refit)
    }

    /// Replaces the lower triangle of the symmetric `matrix` `[size, size]` by its Cholesky factor.
    fn factorise(&self, matrix: &mut [f64], size: usize) -> Result<(), KernelError> {
        let set = self.instruction_set();
        for start in (0..size).step_by(BLOCK) {
            let end = (start + BLOCK).min(size);
            let (done, below) = matrix.split_at_mut(end * size);
            for index in start..end {
                let (above, row) = done.split_at_mut(index * size);
                let row = &mut row[..size];
                finish_row(set, above, row, size, start..index);
                let mut square = 0.0;
                dot(set, &row[..index], &row[..index], &mut square);
                let pivot = row[index] - square;
                if pivot.is_nan() || pivot <= 0.0 {
                    let reason = format!("pivot {index} of {size} is {pivot}, expected a positive number");
                    return Err(KernelError::Shape { what: "covariance of a refit", reason });
                }
                row[index] = pivot.sqrt();
            }
            let rows = size - end;
            let below = Scatter::new(below);
            self.parallel(rows.div_ceil(TASK_ROWS), &|task| {
                // SAFETY: each task names rows of its own.
                let part = unsafe { below.part(task * TASK_ROWS * size, TASK_ROWS * size) };
                for row in part.chunks_exact_mut(size) {
                    finish_row(set, done, row, size, start..end);
                }
            });
        }
        Ok(())
    }
}

/// Finishes the `columns` of one row of the factor, given the finished rows above.
fn finish_row(
    set: InstructionSet,
    above: &[f64],
    row: &mut [f64],
    size: usize,
    columns: std::ops::Range<usize>,
) {
    for column in columns {
        let other = &above[column * size..column * size + column + 1];
        let (mut product, (before, rest)) = (0.0, row.split_at_mut(column));
        dot(set, before, &other[..column], &mut product);
        rest[0] = (rest[0] - product) / other[column];
    }
}

/// Solves `L Lᵀ x = b` in place, L being the lower triangle of `factor`.
fn solve(set: InstructionSet, factor: &[f64], values: &mut [f64]) {
    let size = values.len();
    for (index, row) in factor.chunks_exact(size).enumerate() {
        let mut product = 0.0;
        let (before, rest) = values.split_at_mut(index);
        dot(set, before, &row[..index], &mut product);
        rest[0] = (rest[0] - product) / row[index];
    }
    for (index, row) in factor.chunks_exact(size).enumerate().rev() {
        let (before, rest) = values.split_at_mut(index);
        rest[0] /= row[index];
        subtract_scaled(set, before, &row[..index], rest[0]);
    }
}

versions! {
    fn dot(a: &[f64], b: &[f64], product: &mut f64) = dot_of_slices;
}
versions! {
    fn subtract_scaled(values: &mut [f64], row: &[f64], factor: f64) = subtract_scaled_slice;
}

#[inline(always)]
fn dot_of_slices(a: &[f64], b: &[f64], product: &mut f64) {
    let (a, a_rest) = a.as_chunks::<SUMS>();
    let (b, b_rest) = b.as_chunks::<SUMS>();
    let mut sums = [0.0_f64; SUMS];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum = a.mul_add(*b, *sum);
        }
    }
    for ((sum, a), b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
        *sum = a.mul_add(*b, *sum);
    }
    *product = sums.iter().sum();
}

#[inline(always)]
fn subtract_scaled_slice(values: &mut [f64], row: &[f64], factor: f64) {
    for (value, row) in values.iter_mut().zip(row) {
        *value = (-factor).mul_add(*row, *value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(index: usize) -> f32 {
        ((index * 2_654_435_761) % 1009) as f32 / 504.5 - 1.0
    }

    fn covariance(cpu: &Cpu, width: usize, rows: usize) -> (Covariance, Vec<f32>) {
        let rows: Vec<f32> = (0..width * rows).map(value).collect();
        let mut covariance = Covariance::new(width);
        covariance.add(cpu, &rows).unwrap();
        (covariance, rows)
    }

    /// What the minimum is of, by the data themselves.
    fn loss(rows: &[f32], width: usize, kept: &[usize], old: &[f32], new: &[f32], pull: f64) -> f64 {
        let product = |row: &[f32], weights: &[f32], at: &dyn Fn(usize) -> usize| -> f64 {
            weights.iter().enumerate().map(|(j, w)| f64::from(*w) * f64::from(row[at(j)])).sum()
        };
        let mut loss = 0.0;
        for (old, new) in old.chunks(width).zip(new.chunks(kept.len())) {
            for row in rows.chunks(width) {
                let distance = product(row, old, &|j| j) - product(row, new, &|j| kept[j]);
                loss += distance * distance;
            }
            let moved = new.iter().zip(kept).map(|(new, at)| f64::from(new - old[*at]).powi(2));
            loss += pull * moved.sum::<f64>();
        }
        loss
    }

    #[test]
    fn no_other_weights_change_the_output_less() {
        let cpu = Cpu::new(2).unwrap();
        let (width, outputs) = (150, 11);
        let (covariance, rows) = covariance(&cpu, width, 400);
        let kept: Vec<usize> = (0..width).filter(|index| index % 3 != 1).collect();
        let old: Vec<f32> = (0..outputs * width).map(|index| value(index + 77)).collect();
        let ridge = 0.01;
        let new = cpu.refit(&covariance, &kept, &old, ridge).unwrap();
        let pull = ridge * covariance.mean_square();
        let least = loss(&rows, width, &kept, &old, &new, pull);
        let unchanged: Vec<f32> =
            old.chunks(width).flat_map(|row| kept.iter().map(|index| row[*index])).collect();
        assert!(least < loss(&rows, width, &kept, &old, &unchanged, pull));
        // At the minimum a step in any direction costs, and as much one way as the other.
        for index in (0..new.len()).step_by(37) {
            let moved = |by: f32| {
                let mut other = new.clone();
                other[index] += by;
                loss(&rows, width, &kept, &old, &other, pull) - least
            };
            let (up, down) = (moved(0.05), moved(-0.05));
            assert!(up > 0.0 && down > 0.0 && (up - down).abs() < 0.02 * (up + down), "{index}: {up} {down}");
        }
    }

    #[test]
    fn a_projection_that_loses_nothing_stays() {
        let cpu = Cpu::new(1).unwrap();
        let (covariance, _) = covariance(&cpu, 70, 90);
        let old: Vec<f32> = (0..3 * 70).map(value).collect();
        let all: Vec<usize> = (0..70).collect();
        let new = cpu.refit(&covariance, &all, &old, 1e-3).unwrap();
        assert!(new.iter().zip(&old).all(|(new, old)| (new - old).abs() < 1e-5));
    }

    #[test]
    fn inputs_that_say_nothing_are_refused_without_a_ridge() {
        let cpu = Cpu::new(1).unwrap();
        // Fewer rows than inputs.
        let (covariance, _) = covariance(&cpu, 80, 10);
        let old = vec![1.0; 80];
        let kept: Vec<usize> = (0..79).collect();
        let error = cpu.refit(&covariance, &kept, &old, 0.0).unwrap_err().to_string();
        assert!(error.contains("expected a positive number"), "{error}");
        assert!(cpu.refit(&covariance, &kept, &old, 1e-2).is_ok());
        assert!(cpu.refit(&covariance, &[80], &old, 1e-2).unwrap_err().to_string().contains("limit is 80"));
    }
}
