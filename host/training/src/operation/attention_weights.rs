//! The causal softmax of attention, with a window and a sink where the layer has them.
//!
//! `p = softmax([scale · s, sink])` over the keys that a query sees, without the sink's own share, so that a row with a
//! sink sums to less than 1. `ds = scale · p · (dp - Σ p·dp)` and `dsink = -p_sink · Σ p·dp`.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::lanes::dot;
use super::values;

/// Which keys a query sees, and the scale of the scores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mask {
    /// Query heads; a row of scores belongs to head `row / positions % heads`.
    pub(crate) heads: usize,
    /// Positions of a sequence.
    pub(crate) positions: usize,
    /// Keys that a query sees, its own included.
    pub(crate) window: Option<usize>,
    /// Factor on the scores.
    pub(crate) scale: f32,
}

/// The weights `[.., positions]` of the scores of the same shape, whose rows are ordered by sequence, head and position;
/// `sinks [heads]`.
pub(crate) fn attention_weights(scores: &Tensor, sinks: Option<&Tensor>, mask: Mask) -> Result<Tensor> {
    match sinks {
        Some(sinks) => scores.apply_op2(sinks, WithSinks(mask)),
        None => scores.apply_op1(Plain(mask)),
    }
}

impl Mask {
    fn softmax(self, scores: &[f32], sinks: Option<&[f32]>) -> Vec<f32> {
        let mut weights = vec![0.0; scores.len()];
        let rows = weights.par_chunks_exact_mut(self.positions).zip(scores.par_chunks_exact(self.positions));
        rows.with_min_len(8).enumerate().for_each(|(row, (out, scores))| {
            let sink = sinks.and_then(|sinks| sinks.get(row / self.positions % self.heads)).copied();
            let seen = self.seen(row);
            self.softmax_row(&mut out[seen.clone()], &scores[seen], sink);
        });
        weights
    }

    fn softmax_row(self, out: &mut [f32], scores: &[f32], sink: Option<f32>) {
        let largest =
            scores.iter().fold(f32::NEG_INFINITY, |largest, score| largest.max(*score)) * self.scale;
        let largest = sink.map_or(largest, |sink| largest.max(sink));
        for (out, score) in out.iter_mut().zip(scores) {
            *out = (score * self.scale - largest).exp();
        }
        let sum = out.iter().sum::<f32>() + sink.map_or(0.0, |sink| (sink - largest).exp());
        let share = 1.0 / sum;
        out.iter_mut().for_each(|out| *out *= share);
    }

    fn seen(self, row: usize) -> std::ops::Range<usize> {
        let end = row % self.positions + 1;
        let start = self.window.map_or(0, |window| end.saturating_sub(window));
        start..end
    }

    /// The gradients of the scores and of each row's sink.
    fn gradients(self, weights: &[f32], gradient: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let positions = self.positions;
        let mut of_scores = vec![0.0; weights.len()];
        let mut of_sinks = vec![0.0; weights.len() / positions.max(1)];
        let rows = of_scores.par_chunks_exact_mut(positions).zip(&mut of_sinks);
        let rows = rows.zip(weights.par_chunks_exact(positions).zip(gradient.par_chunks_exact(positions)));
        rows.with_min_len(8).enumerate().for_each(|(row, ((out, sink), (weights, gradient)))| {
            let seen = self.seen(row);
            let (weights, gradient) = (&weights[seen.clone()], &gradient[seen.clone()]);
            let mean = dot(weights, gradient);
            for ((out, weight), gradient) in out[seen].iter_mut().zip(weights).zip(gradient) {
                *out = self.scale * weight * (gradient - mean);
            }
            *sink = -(1.0 - weights.iter().sum::<f32>()) * mean;
        });
        (of_scores, of_sinks)
    }

    fn backward(self, weights: &Tensor, gradient: &Tensor) -> Result<(Tensor, Vec<f32>)> {
        let (of_scores, of_sinks) = values::read(weights, |weights| {
            values::read(&gradient.contiguous()?, |gradient| Ok(self.gradients(weights, gradient)))
        })?;
        Ok((values::tensor(of_scores, weights.shape().clone())?, of_sinks))
    }
}

struct Plain(Mask);

impl CustomOp1 for Plain {
    fn name(&self) -> &'static str {
        "attention-weights"
    }

    fn cpu_fwd(&self, scores: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        values::output(self.0.softmax(values::slice(scores, layout)?, None), layout.shape().clone())
    }

    fn bwd(&self, _: &Tensor, weights: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.0.backward(weights, gradient)?.0))
    }
}

struct WithSinks(Mask);

impl CustomOp2 for WithSinks {
    fn name(&self) -> &'static str {
        "attention-weights-with-sinks"
    }

    fn cpu_fwd(
        &self,
        scores: &CpuStorage,
        scores_layout: &Layout,
        sinks: &CpuStorage,
        sinks_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sinks = values::slice(sinks, sinks_layout)?;
        let weights = self.0.softmax(values::slice(scores, scores_layout)?, Some(sinks));
        values::output(weights, scores_layout.shape().clone())
    }

    fn bwd(
        &self,
        _: &Tensor,
        sinks: &Tensor,
        weights: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (of_scores, of_rows) = self.0.backward(weights, gradient)?;
        if !sinks.track_op() {
            return Ok((Some(of_scores), None));
        }
        let mut sums = vec![0.0; self.0.heads];
        for (index, rows) in of_rows.chunks_exact(self.0.positions).enumerate() {
            sums[index % self.0.heads] += rows.iter().sum::<f32>();
        }
        Ok((Some(of_scores), Some(values::tensor(sums, self.0.heads)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_gradient::{assert_gradients, wave};
    use super::*;

    const MASK: Mask = Mask { heads: 2, positions: 5, window: Some(3), scale: 0.7 };

    #[test]
    fn gradients_are_those_of_small_differences() {
        let scores = wave(&[2, 2, 5, 5], 1);
        for window in [None, Some(3)] {
            let mask = Mask { window, ..MASK };
            assert_gradients(&[scores.clone(), wave(&[2], 2)], |inputs| {
                attention_weights(&inputs[0], Some(&inputs[1]), mask).unwrap()
            });
            assert_gradients(std::slice::from_ref(&scores), |inputs| {
                attention_weights(&inputs[0], None, mask).unwrap()
            });
        }
    }

    #[test]
    fn a_query_sees_its_window_and_nothing_later() {
        let weights = attention_weights(&wave(&[1, 2, 5, 5], 1), None, MASK).unwrap();
        for (row, weights) in values::to_vec(&weights).unwrap().chunks(5).enumerate() {
            let seen: Vec<usize> = (0..5).filter(|key| weights[*key] > 0.0).collect();
            let position = row % 5;
            assert_eq!(seen, (position.saturating_sub(2)..=position).collect::<Vec<_>>());
            assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
    }
}
