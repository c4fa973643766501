//! RMS norm: `y = x · r · w` with `r = 1 / sqrt(mean(x²) + eps)`.
//!
//! `dx = r · (w · dy) - x · r³ · mean(w · dy · x)` and `dw = Σ dy · x · r` over the rows.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::lanes::dot;
use super::values;

/// The norm of each row of `x [rows, width]`, times `weight [width]`.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    x.apply_op2(weight, RmsNorm { eps })
}

struct RmsNorm {
    eps: f32,
}

impl RmsNorm {
    fn reciprocal(&self, row: &[f32]) -> f32 {
        1.0 / (dot(row, row) / row.len() as f32 + self.eps).sqrt()
    }

    /// The gradient of `x`, and that of the weight if it is wanted.
    fn gradients(
        &self,
        x: &[f32],
        weight: &[f32],
        gradient: &[f32],
        wants_weight: bool,
    ) -> (Vec<f32>, Vec<f32>) {
        let width = weight.len().max(1);
        let mut of_x = vec![0.0; x.len()];
        let rows = of_x
            .par_chunks_exact_mut(width)
            .zip(x.par_chunks_exact(width))
            .zip(gradient.par_chunks_exact(width));
        rows.with_min_len(16).for_each(|((out, x), gradient)| {
            let reciprocal = self.reciprocal(x);
            for ((out, weight), gradient) in out.iter_mut().zip(weight).zip(gradient) {
                *out = weight * gradient;
            }
            let pull = dot(out, x) * reciprocal.powi(3) / width as f32;
            for (out, x) in out.iter_mut().zip(x) {
                *out = *out * reciprocal - x * pull;
            }
        });
        let mut of_weight = vec![0.0; if wants_weight { width } else { 0 }];
        if wants_weight {
            for (x, gradient) in x.chunks_exact(width).zip(gradient.chunks_exact(width)) {
                let reciprocal = self.reciprocal(x);
                for ((sum, x), gradient) in of_weight.iter_mut().zip(x).zip(gradient) {
                    *sum += gradient * x * reciprocal;
                }
            }
        }
        (of_x, of_weight)
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (values::slice(x, x_layout)?, values::slice(weight, weight_layout)?);
        let width = weight.len().max(1);
        let mut normed = vec![0.0; x.len()];
        normed.par_chunks_exact_mut(width).zip(x.par_chunks_exact(width)).with_min_len(16).for_each(
            |(out, x)| {
                let reciprocal = self.reciprocal(x);
                for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                    *out = x * reciprocal * weight;
                }
            },
        );
        values::output(normed, x_layout.shape().clone())
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let wants_weight = weight.track_op();
        let (of_x, of_weight) = values::read(x, |x| {
            values::read(weight, |weight| {
                values::read(&gradient.contiguous()?, |gradient| {
                    Ok(self.gradients(x, weight, gradient, wants_weight))
                })
            })
        })?;
        let of_weight =
            if wants_weight { Some(values::tensor(of_weight, weight.shape().clone())?) } else { None };
        Ok((Some(values::tensor(of_x, x.shape().clone())?), of_weight))
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_gradient::{assert_gradients, wave};
    use super::*;

    #[test]
    fn gradients_are_those_of_small_differences() {
        assert_gradients(&[wave(&[3, 19], 1), wave(&[19], 2)], |inputs| {
            rms_norm(&inputs[0], &inputs[1], 1e-3).unwrap()
        });
    }
}
