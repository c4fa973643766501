//! `x · Wᵀ + b`, with gradients for what trains and nothing else.
//!
//! candle's own product would compute the gradient of a frozen matrix too, a third of the work of a LoRA step. The gradient of
//! a matrix that trains is added to its sum where it lies, so that no tensor is made for it.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::lanes::{add_scaled, column_sums};
use super::products::Products;
use super::values;
use crate::gradient_sum::GradientSum;

/// A matrix that rows are multiplied with.
#[derive(Clone, Debug)]
pub(crate) struct Weight {
    /// `[outputs, inputs]`, with the experts before them in a mixture.
    pub(crate) values: Tensor,
    /// Where its gradient goes, if it trains.
    pub(crate) gradient: Option<GradientSum>,
}

/// `x [rows, inputs]` times the transpose of `weight [outputs, inputs]`, plus `bias [outputs]`: `[rows, outputs]`.
pub(crate) fn linear(
    x: &Tensor,
    weight: &Weight,
    bias: Option<&Tensor>,
    products: &Products,
) -> Result<Tensor> {
    let product = Product { gradient: weight.gradient.clone(), products: products.clone() };
    // What the operation adds itself is no business of the tensor library.
    let weight = weight.values.detach();
    match bias {
        Some(bias) => x.apply_op3(&weight, bias, Affine(product)),
        None => x.apply_op2(&weight, product),
    }
}

struct Product {
    gradient: Option<GradientSum>,
    products: Products,
}

impl Product {
    /// Adds the matrix's gradient to its sum and gives that of `x`, if it is wanted.
    fn backward(&self, x: &Tensor, weight: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        if let Some(sum) = &self.gradient {
            let mut sum = sum.lock();
            // A pass that wants gradients of activations alone lends no sums.
            if !sum.is_empty() {
                self.products.add_outer(&gradient.detach(), &x.detach(), &mut sum)?;
            }
        }
        if !x.track_op() {
            return Ok(None);
        }
        self.products.plain(&gradient.detach(), weight).map(Some)
    }
}

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
        values::output(self.products.of_storages((x, x_layout), (weight, weight_layout))?, shape)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((self.backward(x, weight, gradient)?, None))
    }
}

struct Affine(Product);

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
        let mut sums = self.0.products.of_storages((x, x_layout), (weight, weight_layout))?;
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
        let of_x = self.0.backward(x, weight, gradient)?;
        if !bias.track_op() {
            return Ok((of_x, None, None));
        }
        let length = bias.elem_count();
        let sums = values::read(&gradient.contiguous()?, |gradient| Ok(column_sums(gradient, length)))?;
        Ok((of_x, None, Some(values::tensor(sums, length)?)))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;
    use espalier_kernels::Cpu;

    use super::super::seed::backward_from;
    use super::super::test_gradient::{assert_gradients, wave};
    use super::*;

    fn weight(values: &Tensor) -> Weight {
        Weight { values: values.clone(), gradient: Some(GradientSum::default()) }
    }

    #[test]
    fn gradients_are_those_of_small_differences() {
        let matrix = weight(&wave(&[4, 5], 2));
        matrix.gradient.as_ref().unwrap().exchange(&mut vec![0.0; 20]);
        assert_gradients(&[wave(&[3, 5], 1), wave(&[4], 3)], |inputs| {
            linear(&inputs[0], &matrix, Some(&inputs[1]), &Products::Exact).unwrap()
        });
    }

    #[test]
    fn the_gradient_of_the_matrix_is_added_to_its_sum_in_either_arithmetic() {
        let (x, gradient) = (wave(&[3, 5], 1), wave(&[3, 4], 4));
        let expected = values::to_vec(&gradient.t().unwrap().matmul(&x).unwrap()).unwrap();
        for (products, tolerance) in
            [(Products::Exact, 1e-6), (Products::Rounded(Cpu::new(1).unwrap()), 3e-2)]
        {
            let matrix = weight(&wave(&[4, 5], 2));
            let sum = matrix.gradient.clone().unwrap();
            sum.exchange(&mut vec![1.0; 20]);
            let input = Var::from_tensor(&x).unwrap();
            let output = linear(input.as_tensor(), &matrix, None, &products).unwrap();
            let store = backward_from(&output, &gradient).unwrap();
            for (found, expected) in sum.lock().iter().zip(&expected) {
                assert!((found - 1.0 - expected).abs() < tolerance, "{found}, expected 1 + {expected}");
            }
            let of_x = values::to_vec(store.get(input.as_tensor()).unwrap()).unwrap();
            let expected = values::to_vec(&gradient.matmul(&matrix.values).unwrap()).unwrap();
            for (found, expected) in of_x.iter().zip(&expected) {
                assert!((found - expected).abs() < tolerance, "{found}, expected {expected}");
            }
        }
    }
}
