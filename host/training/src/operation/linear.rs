//! `x · Wᵀ + b`, with gradients for what trains and nothing else.
//!
//! candle's own product would compute the gradient of a frozen matrix too, a third of the work of a LoRA step.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Error, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::lanes::{add_scaled, column_sums};
use super::values;

/// `x [rows, inputs]` times the transpose of `weight [outputs, inputs]`, plus `bias [outputs]`: `[rows, outputs]`.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    match bias {
        Some(bias) => x.apply_op3(weight, bias, Affine),
        None => x.apply_op2(weight, Product),
    }
}

fn product(
    x: &CpuStorage,
    x_layout: &Layout,
    weight: &CpuStorage,
    weight_layout: &Layout,
) -> Result<CpuStorage> {
    let (rows, inputs) = x_layout.shape().dims2()?;
    let (outputs, _) = weight_layout.shape().dims2()?;
    x.matmul(weight, (1, rows, outputs, inputs), x_layout, &weight_layout.transpose(0, 1)?)
}

fn gradients(x: &Tensor, weight: &Tensor, gradient: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let of_x = if x.track_op() { Some(gradient.matmul(&weight.detach())?) } else { None };
    let of_weight = if weight.track_op() { Some(gradient.t()?.matmul(&x.detach())?) } else { None };
    Ok((of_x, of_weight))
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
        let shape = (x_layout.dims()[0], weight_layout.dims()[0]);
        Ok((product(x, x_layout, weight, weight_layout)?, shape.into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        gradients(x, weight, gradient)
    }
}

struct Affine;

impl CustomOp3 for Affine {
    fn name(&self) -> &'static str {
        "linear-with-bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let bias = values::slice(bias, bias_layout)?;
        let CpuStorage::F32(mut sums) = product(x, x_layout, weight, weight_layout)? else {
            return Err(Error::msg("a product is not f32"));
        };
        sums.par_chunks_exact_mut(bias.len().max(1))
            .with_min_len(16)
            .for_each(|row| add_scaled(row, bias, 1.0));
        values::output(sums, (x_layout.dims()[0], bias.len()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (of_x, of_weight) = gradients(x, weight, gradient)?;
        if !bias.track_op() {
            return Ok((of_x, of_weight, None));
        }
        let length = bias.elem_count();
        let sums = values::read(&gradient.contiguous()?, |gradient| Ok(column_sums(gradient, length)))?;
        Ok((of_x, of_weight, Some(values::tensor(sums, length)?)))
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
