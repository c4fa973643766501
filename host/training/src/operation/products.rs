//! How the products of dense projections are computed.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Error, Layout, Result, Tensor};
use espalier_kernels::{Cpu, Dense, Sum};

use super::values;

/// In f32, or with factors rounded to bf16 and sums in f32, which processors with products of bf16 pairs do at twice the
/// speed.
#[derive(Clone, Debug, Default)]
pub(crate) enum Products {
    /// By the tensor library.
    #[default]
    Exact,
    /// By the kernels.
    Rounded(Cpu),
}

impl Products {
    /// `x [rows, inputs] · weight [outputs, inputs]ᵀ`, from what a tensor library's operation is given.
    pub(crate) fn of_storages(
        &self,
        (x, x_layout): (&CpuStorage, &Layout),
        (weight, weight_layout): (&CpuStorage, &Layout),
    ) -> Result<Vec<f32>> {
        let (rows, inputs) = x_layout.shape().dims2()?;
        let (outputs, _) = weight_layout.shape().dims2()?;
        match self {
            Self::Exact => {
                let shape = (1, rows, outputs, inputs);
                match x.matmul(weight, shape, x_layout, &weight_layout.transpose(0, 1)?)? {
                    CpuStorage::F32(product) => Ok(product),
                    _ => Err(Error::msg("a product is not f32")),
                }
            }
            Self::Rounded(cpu) => {
                let x = dense(values::slice(x, x_layout)?, rows, inputs)?;
                let weight = dense(values::slice(weight, weight_layout)?, outputs, inputs)?;
                rounded(cpu, x, weight.transposed(), rows * outputs)
            }
        }
    }

    /// `x [rows, inputs] · weight [outputs, inputs]ᵀ`.
    pub(crate) fn transposed(&self, x: &Tensor, weight: &Tensor) -> Result<Vec<f32>> {
        match self {
            Self::Exact => values::to_vec(&x.matmul(&weight.t()?)?),
            Self::Rounded(cpu) => {
                let length = x.dims2()?.0 * weight.dims2()?.0;
                read_both(x, weight, |x, weight| rounded(cpu, x, weight.transposed(), length))
            }
        }
    }

    /// `gradient [rows, outputs] · weight [outputs, inputs]`.
    pub(crate) fn plain(&self, gradient: &Tensor, weight: &Tensor) -> Result<Tensor> {
        match self {
            Self::Exact => gradient.matmul(weight),
            Self::Rounded(cpu) => {
                let shape = (gradient.dims2()?.0, weight.dims2()?.1);
                let product = read_both(gradient, weight, |gradient, weight| {
                    rounded(cpu, gradient, weight, shape.0 * shape.1)
                })?;
                values::tensor(product, shape)
            }
        }
    }

    /// `sums [outputs, inputs] += gradient [rows, outputs]ᵀ · x [rows, inputs]`.
    pub(crate) fn add_outer(&self, gradient: &Tensor, x: &Tensor, sums: &mut [f32]) -> Result<()> {
        match self {
            Self::Exact => values::read(&gradient.t()?.matmul(x)?, |product| {
                crate::sum::add(sums, product);
                Ok(())
            }),
            Self::Rounded(cpu) => read_both(gradient, x, |gradient, x| {
                cpu.bf16_product(gradient.transposed(), x, sums, Sum::Add).map_err(Error::wrap)
            }),
        }
    }
}

fn rounded(cpu: &Cpu, left: Dense<'_>, right: Dense<'_>, length: usize) -> Result<Vec<f32>> {
    let mut output = vec![0.0; length];
    cpu.bf16_product(left, right, &mut output, Sum::Replace).map_err(Error::wrap)?;
    Ok(output)
}

fn dense(values: &[f32], rows: usize, columns: usize) -> Result<Dense<'_>> {
    Dense::new(values, rows, columns).map_err(Error::wrap)
}

fn read_both<R>(
    first: &Tensor,
    second: &Tensor,
    use_both: impl FnOnce(Dense<'_>, Dense<'_>) -> Result<R>,
) -> Result<R> {
    let ((rows, columns), (other_rows, other_columns)) = (first.dims2()?, second.dims2()?);
    let second = second.contiguous()?;
    values::read(&first.contiguous()?, |first| {
        values::read(&second, |second| {
            use_both(dense(first, rows, columns)?, dense(second, other_rows, other_columns)?)
        })
    })
}
