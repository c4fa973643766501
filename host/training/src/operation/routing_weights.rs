//! The weights of a token's experts: the softmax over its largest router logits.
//!
//! Which experts those are is constant; `dl = w · (dw - Σ w·dw)` over the experts of a token.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use espalier_model::Routing;

use super::values;

/// The choice that `logits [tokens, experts]` make, `active` experts for each token, and the weight of every grouped row.
pub(crate) fn route(logits: &Tensor, active: usize) -> Result<(Arc<Routing>, Tensor)> {
    let (_, experts) = logits.dims2()?;
    let routing =
        values::read(&logits.contiguous()?, |values| Ok(Arc::new(Routing::new(values, experts, active))))?;
    let weights = logits.apply_op1(Weights { routing: routing.clone(), active })?;
    Ok((routing, weights))
}

struct Weights {
    routing: Arc<Routing>,
    active: usize,
}

impl CustomOp1 for Weights {
    fn name(&self) -> &'static str {
        "routing-weights"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut weights = vec![0.0; self.routing.mixture.len()];
        for (row, weight) in &self.routing.mixture {
            weights[*row] = *weight;
        }
        let rows = weights.len();
        values::output(weights, rows)
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (tokens, experts) = logits.dims2()?;
        let mut experts_of_rows = vec![0; self.routing.mixture.len()];
        for group in &self.routing.groups {
            experts_of_rows[group.rows.clone()].fill(group.expert);
        }
        let of_logits = values::read(&gradient.contiguous()?, |gradient| {
            let mut of_logits = vec![0.0; tokens * experts];
            let tokens = of_logits.chunks_exact_mut(experts).zip(self.routing.mixture.chunks(self.active));
            for (out, mixture) in tokens {
                let mean: f32 = mixture.iter().map(|(row, weight)| weight * gradient[*row]).sum();
                for (row, weight) in mixture {
                    out[experts_of_rows[*row]] = weight * (gradient[*row] - mean);
                }
            }
            Ok(of_logits)
        })?;
        values::tensor(of_logits, (tokens, experts)).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_gradient::{assert_gradients, wave};
    use super::*;

    #[test]
    fn gradients_are_those_of_small_differences() {
        assert_gradients(&[wave(&[5, 4], 1)], |inputs| route(&inputs[0], 2).unwrap().1);
    }
}
