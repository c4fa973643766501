//! `x · Wᵀ + b`, with gradients for what trains and nothing else.
//!
//! candle's own product would compute the gradient of a frozen matrix too, a third of the work of a LoRA step.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::lanes::column_sums;
use super::values;

/// `x [rows, inputs]` times the transpose of `weight [outputs, inputs]`, plus `bias [outputs]`: `[rows, outputs]`.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let product = x.apply_op2(weight, Product)?;
    match bias {
        Some(bias) => product.apply_op2(bias, AddBias),
        None => Ok(product),
    }
}

struct Product;

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, inputs) = x_layout.shape().dims2()?;
        let (outputs, _) = weight_layout.shape().dims2()?;
        let transposed = weight_layout.transpose(0, 1)?;
        let product = x.matmul(weight, (1, rows, outputs, inputs), x_layout, &transposed)?;
        Ok((product, (rows, outputs).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let of_x = if x.track_op() { Some(gradient.matmul(&weight.detach())?) } else { None };
        let of_weight = if weight.track_op() { Some(gradient.t()?.matmul(&x.detach())?) } else { None };
        Ok((of_x, of_weight))
    }
}

struct AddBias;

impl CustomOp2 for AddBias {
    fn name(&self) -> &'static str {
        "bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let mut sums = values::slice(x, x_layout)?.to_vec();
        let bias = values::slice(bias, bias_layout)?;
        sums.par_chunks_exact_mut(bias.len().max(1)).with_min_len(16).for_each(|row| {
            for (value, bias) in row.iter_mut().zip(bias) {
                *value += bias;
            }
        });
        values::output(sums, x_layout.shape().clone())
    }

    fn bwd(
        &self,
        _: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        if !bias.track_op() {
            return Ok((Some(gradient.clone()), None));
        }
        let length = bias.elem_count();
        let sums = values::read(&gradient.contiguous()?, |gradient| Ok(column_sums(gradient, length)))?;
        Ok((Some(gradient.clone()), Some(values::tensor(sums, length)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_gradient::{assert_gradients, wave};
    use super::*;

    #[test]
    fn gradients_are_those_of_small_differences() {
        assert_gradients(&[wave(&[3, 5], 1), wave(&[4, 5], 2), wave(&[4], 3)], |inputs| {
            linear(&inputs[0], &inputs[1], Some(&inputs[2])).unwrap()
        });
    }
}
