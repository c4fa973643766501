//! How gate and up are joined: SwiGLU, and gpt-oss's clamped form of it.

use candle_core::{CpuStorage, CustomOp2, Error, Layout, Result, Shape, Tensor};
use espalier_model::Activation;
use rayon::prelude::*;

use super::values;

/// Values that one thread takes at once.
const PIECE: usize = 1 << 12;

/// The gated activation of `gate` and `up`, of one shape. What a clamp cuts off has no gradient.
pub(crate) fn gated(gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor> {
    gate.apply_op2(up, Gated { activation })
}

struct Gated {
    activation: Activation,
}

/// A value, and its derivatives by gate and up.
type Derivatives = (f32, f32, f32);

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn silu(gate: f32, up: f32) -> Derivatives {
    let sigmoid = sigmoid(gate);
    let gated = gate * sigmoid;
    (gated * up, up * (sigmoid + gated * (1.0 - sigmoid)), gated)
}

fn clamped(gate: f32, up: f32, alpha: f32, limit: f32) -> Derivatives {
    let (passes_gate, passes_up) = (gate <= limit, up.abs() <= limit);
    let (gate, up) = (gate.min(limit), up.clamp(-limit, limit));
    let sigmoid = sigmoid(alpha * gate);
    let gated = gate * sigmoid;
    let by_gate = (up + 1.0) * (sigmoid + alpha * gated * (1.0 - sigmoid));
    (gated * (up + 1.0), if passes_gate { by_gate } else { 0.0 }, if passes_up { gated } else { 0.0 })
}

impl Gated {
    fn function(&self) -> Result<impl Fn(f32, f32) -> Derivatives + Sync> {
        let (alpha, limit) = match self.activation {
            Activation::Silu => (None, 0.0),
            Activation::ClampedSwiglu { alpha, limit } => (Some(alpha), limit),
            other => {
                return Err(Error::msg(format!("the activation is {other:?}, which has no derivative here")));
            }
        };
        Ok(move |gate, up| match alpha {
            None => silu(gate, up),
            Some(alpha) => clamped(gate, up, alpha, limit),
        })
    }
}

impl CustomOp2 for Gated {
    fn name(&self) -> &'static str {
        "gated-activation"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let function = self.function()?;
        let (gate, up) = (values::slice(gate, gate_layout)?, values::slice(up, up_layout)?);
        let mut joined = gate.to_vec();
        joined
            .par_iter_mut()
            .zip(up)
            .with_min_len(PIECE)
            .for_each(|(value, up)| *value = function(*value, *up).0);
        values::output(joined, gate_layout.shape().clone())
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let function = self.function()?;
        let (of_gate, of_up) = values::read(gate, |gate| {
            values::read(up, |up| {
                values::read(&gradient.contiguous()?, |gradient| {
                    let (mut of_gate, mut of_up) = (gate.to_vec(), up.to_vec());
                    let pairs = of_gate.par_iter_mut().zip(of_up.par_iter_mut()).zip(gradient);
                    pairs.with_min_len(PIECE).for_each(|((gate, up), gradient)| {
                        let (_, by_gate, by_up) = function(*gate, *up);
                        (*gate, *up) = (by_gate * gradient, by_up * gradient);
                    });
                    Ok((of_gate, of_up))
                })
            })
        })?;
        let shape = gate.shape();
        Ok((Some(values::tensor(of_gate, shape.clone())?), Some(values::tensor(of_up, shape.clone())?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_gradient::{assert_gradients, wave};
    use super::*;

    #[test]
    fn gradients_are_those_of_small_differences() {
        let inputs = [wave(&[4, 6], 1), wave(&[4, 6], 2)];
        for activation in [Activation::Silu, Activation::ClampedSwiglu { alpha: 1.702, limit: 0.9 }] {
            assert_gradients(&inputs, |inputs| gated(&inputs[0], &inputs[1], activation).unwrap());
        }
    }
}
