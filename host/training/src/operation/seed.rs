//! Starting a backward pass in the middle of a network.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, backprop::GradStore};

use super::values;

/// Runs the graph behind `output` backwards, from the gradient of the loss with respect to it.
pub(crate) fn backward_from(output: &Tensor, gradient: &Tensor) -> Result<GradStore> {
    output.apply_op1(Seed { gradient: gradient.detach() })?.backward()
}

/// A scalar that stands for the loss: its own value is of no interest, its gradient is the given one.
struct Seed {
    gradient: Tensor,
}

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        values::output(vec![0.0], ())
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.gradient.clone()))
    }
}
