//! Products of activations with weight matrices.

use std::cell::RefCell;

use super::instruction_set::versions;
use super::scatter::Scatter;
use super::{Activations, Cpu, lanes};
use crate::error::check_length;
use crate::{KernelError, Matrix};

/// Weight rows in one piece of work.
const PIECE_ROWS: usize = 16;

thread_local! {
    static ROW: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

versions! {
    fn dot(a: &[f32], b: &[f32]) -> f32 = lanes::dot;
}

impl Cpu {
    /// `output = input · weightsᵀ`: `n × weights.rows()` values from `n × weights.columns()`.
    ///
    /// # Errors
    /// When the shapes do not agree.
    pub fn matmul(
        &self,
        weights: &Matrix,
        input: &Activations,
        output: &mut [f32],
    ) -> Result<(), KernelError> {
        self.matmul_many(&mut [(weights, output)], input)
    }

    /// Several products of the same input (query, key and value; gate and up) in one dispatch of the pool.
    ///
    /// # Errors
    /// When the shapes do not agree; nothing is written then.
    pub fn matmul_many(
        &self,
        products: &mut [(&Matrix, &mut [f32])],
        input: &Activations,
    ) -> Result<(), KernelError> {
        for (weights, output) in &*products {
            check_length("the columns of a weight matrix", weights.columns(), input.columns)?;
            check_length("the output of a product", output.len(), input.rows * weights.rows())?;
        }
        let set = self.instruction_set();
        let jobs: Vec<(&Matrix, Scatter<f32>)> =
            products.iter_mut().map(|(weights, output)| (*weights, Scatter::new(output))).collect();
        let mut pieces = Vec::new();
        for (job, (weights, _)) in jobs.iter().enumerate() {
            pieces.extend((0..weights.rows()).step_by(PIECE_ROWS).map(|row| (job, row)));
        }
        self.parallel(pieces.len(), &|piece| {
            let Some(&(job, start)) = pieces.get(piece) else { return };
            let Some((weights, output)) = jobs.get(job) else { return };
            ROW.with_borrow_mut(|row| {
                row.resize(weights.columns(), 0.0);
                for index in start..(start + PIECE_ROWS).min(weights.rows()) {
                    if weights.dequantize_row(index, row).is_err() {
                        return;
                    }
                    for (n, values) in input.values.chunks_exact(input.columns).enumerate() {
                        // SAFETY: each output element belongs to one weight row, each weight row to one piece.
                        let out = unsafe { output.part(n * weights.rows() + index, 1) };
                        out.fill(dot(set, row, values));
                    }
                }
            });
        });
        Ok(())
    }
}
