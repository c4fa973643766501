//! One projection and how it is fitted to what is left of its inputs.

use std::collections::BTreeMap;

use espalier_kernels::{Covariance, Cpu, Matrix, Precision};
use espalier_model::Checkpoint;

use crate::error::PruningError;

/// `W x + b` as one matrix `[outputs, inputs]`, a bias being the weights of one more input that is always 1.
pub(super) struct Projection {
    weights: Vec<f32>,
    inputs: usize,
    has_bias: bool,
}

impl Projection {
    pub(super) fn read(checkpoint: &Checkpoint, layer: usize, part: &str) -> Result<Self, PruningError> {
        let stored = checkpoint.tensor(&format!("model.layers.{layer}.{part}.weight"))?;
        let (_, columns) = stored.rows_and_columns();
        let weights = stored.to_f32()?;
        let Ok(bias) = checkpoint.tensor(&format!("model.layers.{layer}.{part}.bias")) else {
            return Ok(Self { weights, inputs: columns, has_bias: false });
        };
        let rows = weights.chunks_exact(columns.max(1)).zip(bias.to_f32()?);
        let weights = rows.flat_map(|(row, bias)| row.iter().copied().chain([bias])).collect();
        Ok(Self { weights, inputs: columns + 1, has_bias: true })
    }

    /// Fits the weights of the inputs `kept` on what went in, `[tokens, inputs]` for each window, and adds to `hidden` what
    /// that changes.
    pub(super) fn fit(
        &mut self,
        cpu: &Cpu,
        kept: &[usize],
        inputs: &mut [Vec<f32>],
        hidden: &mut [Vec<f32>],
        ridge: f64,
    ) -> Result<(), PruningError> {
        let mut kept = kept.to_vec();
        if self.has_bias {
            kept.push(self.inputs - 1);
        }
        let mut covariance = Covariance::new(self.inputs);
        for rows in inputs.iter_mut() {
            if self.has_bias {
                *rows = with_constant(rows, self.inputs - 1);
            }
            covariance.add(cpu, rows)?;
        }
        let fitted = cpu.refit(&covariance, &kept, &self.weights, ridge)?;
        let changes = self.changes(&kept, &fitted)?;
        for (rows, hidden) in inputs.iter().zip(hidden) {
            let mut change = vec![0.0; hidden.len()];
            cpu.matmul(&changes, &cpu.activations(rows, self.inputs, Precision::Exact)?, &mut change)?;
            cpu.add(hidden, &change);
        }
        self.inputs = kept.len();
        self.weights = fitted;
        Ok(())
    }

    /// The bias that makes up for the mean of what the inputs other than `kept` gave, while weights stay as they are:
    /// `b + W[:, gone] · E[x_gone]` (FLAP, An et al., arXiv 2312.11983). Adds to `hidden` what that changes; none where there
    /// is no bias.
    pub(super) fn compensating_bias(
        &self,
        cpu: &Cpu,
        kept: &[usize],
        inputs: &[Vec<f32>],
        hidden: &mut [Vec<f32>],
    ) -> Option<Vec<f32>> {
        let columns = self.inputs.checked_sub(1).filter(|_| self.has_bias)?;
        let mut means = vec![0.0_f64; columns];
        let count = inputs.iter().map(Vec::len).sum::<usize>() / columns.max(1);
        for row in inputs.iter().flat_map(|rows| rows.chunks_exact(columns.max(1))) {
            means.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value));
        }
        for &index in kept {
            means.get_mut(index).into_iter().for_each(|mean| *mean = 0.0);
        }
        let (mut shift, mut bias) = (Vec::new(), Vec::new());
        for row in self.weights.chunks_exact(self.inputs) {
            let missed: f64 = row.iter().zip(&means).map(|(weight, sum)| f64::from(*weight) * sum).sum();
            let missed = (missed / count.max(1) as f64) as f32;
            shift.push(missed);
            bias.extend(row.last().map(|bias| bias + missed));
        }
        hidden.iter_mut().for_each(|hidden| cpu.add_bias(hidden, &shift));
        Some(bias)
    }

    /// How the weights of the inputs that stay differ from before; zeros for those that go.
    fn changes(&self, kept: &[usize], fitted: &[f32]) -> Result<Matrix, PruningError> {
        let mut changes = vec![0.0; self.weights.len()];
        let old = self.weights.chunks_exact(self.inputs);
        let rows = changes.chunks_exact_mut(self.inputs).zip(old).zip(fitted.chunks_exact(kept.len()));
        for ((changes, old), fitted) in rows {
            for (&index, fitted) in kept.iter().zip(fitted) {
                if let (Some(change), Some(old)) = (changes.get_mut(index), old.get(index)) {
                    *change = fitted - old;
                }
            }
        }
        Ok(Matrix::from_f32(self.weights.len() / self.inputs, self.inputs, &changes)?)
    }

    /// Keeps the tensors under the name that they have in the smaller model.
    pub(super) fn store(self, layer: usize, part: &str, tensors: &mut BTreeMap<String, Vec<f32>>) {
        let mut weights = self.weights;
        if self.has_bias {
            let rows = weights.chunks_exact(self.inputs);
            let bias = rows.clone().filter_map(<[f32]>::last).copied().collect();
            tensors.insert(format!("model.layers.{layer}.{part}.bias"), bias);
            weights =
                rows.flat_map(|row| row.split_last().map_or(&[][..], |(_, row)| row)).copied().collect();
        }
        tensors.insert(format!("model.layers.{layer}.{part}.weight"), weights);
    }
}

/// Rows with a 1 behind each.
fn with_constant(rows: &[f32], width: usize) -> Vec<f32> {
    rows.chunks_exact(width.max(1)).flat_map(|row| row.iter().copied().chain([1.0])).collect()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// What `tests/golden/refit.py` wrote.
    #[derive(Deserialize)]
    struct Golden {
        tokens: usize,
        inputs: Vec<f32>,
        weights: Vec<f32>,
        bias: Vec<f32>,
        kept: Vec<usize>,
        ridge: f64,
        fitted: Vec<f32>,
        fitted_with_bias: Vec<f32>,
        fitted_bias: Vec<f32>,
        compensated_bias: Vec<f32>,
    }

    impl Golden {
        fn read() -> Self {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/data/refit.json");
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
        }

        fn columns(&self) -> usize {
            self.inputs.len() / self.tokens
        }

        fn without_bias(&self) -> Projection {
            Projection { weights: self.weights.clone(), inputs: self.columns(), has_bias: false }
        }

        fn with_bias(&self) -> Projection {
            let rows = self.weights.chunks_exact(self.columns()).zip(&self.bias);
            let weights = rows.flat_map(|(row, bias)| row.iter().copied().chain([*bias])).collect();
            Projection { weights, inputs: self.columns() + 1, has_bias: true }
        }

        /// Two windows of inputs, and hidden states of zeros.
        fn windows(&self) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
            let half = self.inputs.len() / 2;
            let outputs = self.bias.len() * self.tokens / 2;
            let windows = self.inputs.chunks(half).map(<[f32]>::to_vec).collect();
            (windows, vec![vec![0.0; outputs]; 2])
        }
    }

    #[track_caller]
    fn assert_near(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!((found - expected).abs() < 1e-5, "value {index} is {found}, expected {expected}");
        }
    }

    #[test]
    fn weights_and_bias_are_numpys_least_squares() {
        let (golden, cpu) = (Golden::read(), Cpu::new(1).unwrap());
        let fit = |mut projection: Projection| {
            let (mut inputs, mut hidden) = golden.windows();
            projection.fit(&cpu, &golden.kept, &mut inputs, &mut hidden, golden.ridge).unwrap();
            let mut tensors = BTreeMap::new();
            projection.store(0, "part", &mut tensors);
            tensors
        };
        let plain = fit(golden.without_bias());
        assert_near(&plain["model.layers.0.part.weight"], &golden.fitted);
        assert_eq!(plain.len(), 1);
        let biased = fit(golden.with_bias());
        assert_near(&biased["model.layers.0.part.weight"], &golden.fitted_with_bias);
        assert_near(&biased["model.layers.0.part.bias"], &golden.fitted_bias);
    }

    #[test]
    fn a_bias_alone_makes_up_for_numpys_mean() {
        let (golden, cpu) = (Golden::read(), Cpu::new(1).unwrap());
        let (inputs, mut hidden) = golden.windows();
        let plain = golden.without_bias().compensating_bias(&cpu, &golden.kept, &inputs, &mut hidden);
        assert_eq!(plain, None);
        let bias = golden.with_bias().compensating_bias(&cpu, &golden.kept, &inputs, &mut hidden).unwrap();
        assert_near(&bias, &golden.compensated_bias);
        let shift: Vec<f32> = bias.iter().zip(&golden.bias).map(|(new, old)| new - old).collect();
        for row in hidden.iter().flat_map(|hidden| hidden.chunks_exact(shift.len())) {
            assert_near(row, &shift);
        }
    }
}
