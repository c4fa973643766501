//! `espalier:kernels/tensor`: handles in the guest, values in the host.

mod results;

use std::sync::Arc;

use espalier_kernels::Tensor;
use wasmtime::component::Resource;

use crate::bindings::interfaces::tensor::{Host, HostTensor as HostTensorMethods};
use crate::bindings::interfaces::types::Error;
use crate::context::{Context, HostTensor};

type Handle = Resource<HostTensor>;

/// A number of a guest as a size.
fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Host for Context {}

impl HostTensorMethods for Context {
    fn zeros(&mut self, shape: Vec<u32>) -> wasmtime::Result<Result<Handle, Error>> {
        self.host_call(|context| context.create(&shape, |size| vec![0.0; size]))
    }

    fn from_values(&mut self, shape: Vec<u32>, values: Vec<f32>) -> wasmtime::Result<Result<Handle, Error>> {
        self.host_call(|context| context.create(&shape, |_| values))
    }

    fn shape(&mut self, of: Handle) -> wasmtime::Result<Vec<u32>> {
        self.host_call(|context| {
            let tensor = context.tensor(&of)?;
            Ok(tensor.shape().iter().map(|axis| u32::try_from(*axis).unwrap_or(u32::MAX)).collect())
        })
    }

    fn duplicate(&mut self, of: Handle) -> wasmtime::Result<Handle> {
        self.host_call(|context| context.map(&of, Tensor::clone))
    }

    fn read(&mut self, of: Handle) -> wasmtime::Result<Result<Vec<f32>, Error>> {
        self.host_call(|context| {
            let tensor = context.tensor(&of)?;
            let (found, limit) = (tensor.values().len(), context.limits.read_values);
            if found > limit {
                return Ok(Err(Error::TooLarge(format!("{found} values, the limit of one read is {limit}"))));
            }
            Ok(Ok(tensor.values().to_vec()))
        })
    }

    fn sum(&mut self, of: Handle) -> wasmtime::Result<Handle> {
        self.host_call(|context| context.reduce(&of, Tensor::sum))
    }

    fn mean(&mut self, of: Handle) -> wasmtime::Result<Handle> {
        self.host_call(|context| context.reduce(&of, Tensor::mean))
    }

    fn mean_abs(&mut self, of: Handle) -> wasmtime::Result<Handle> {
        self.host_call(|context| context.reduce(&of, Tensor::mean_abs))
    }

    fn variance(&mut self, of: Handle) -> wasmtime::Result<Handle> {
        self.host_call(|context| context.reduce(&of, Tensor::variance))
    }

    fn sum_squares(&mut self, of: Handle) -> wasmtime::Result<Handle> {
        self.host_call(|context| context.reduce(&of, Tensor::sum_squares))
    }

    fn l2_norm(&mut self, of: Handle) -> wasmtime::Result<Handle> {
        self.host_call(|context| context.reduce(&of, Tensor::l2_norm))
    }

    fn grouped_l2_norm(&mut self, of: Handle, group: u32) -> wasmtime::Result<Result<Handle, Error>> {
        self.grouped(&of, group, Tensor::grouped_l2_norm)
    }

    fn grouped_sum(&mut self, of: Handle, group: u32) -> wasmtime::Result<Result<Handle, Error>> {
        self.grouped(&of, group, Tensor::grouped_sum)
    }

    fn rank_in_groups(&mut self, of: Handle, group: u32) -> wasmtime::Result<Result<Handle, Error>> {
        self.host_call(|context| {
            let values = |tensor: &Tensor| tensor.values().len();
            context.derive(&of, values, Error::InvalidArgument, |tensor| tensor.rank_in_groups(size(group)))
        })
    }

    fn quantile(&mut self, of: Handle, level: f64) -> wasmtime::Result<Result<Handle, Error>> {
        self.host_call(|context| {
            context.derive(&of, Tensor::columns, Error::InvalidArgument, |tensor| tensor.quantile(level))
        })
    }

    fn count_below(&mut self, of: Handle, thresholds: Handle) -> wasmtime::Result<Result<Handle, Error>> {
        self.host_call(|context| {
            context.combine_into((&of, &thresholds), |of, _| of.columns(), Tensor::count_below)
        })
    }

    fn count_largest(&mut self, of: Handle, count: u32, excluded: Vec<u32>) -> wasmtime::Result<Handle> {
        self.host_call(|context| {
            let excluded: Vec<usize> = excluded.into_iter().map(size).collect();
            context.reduce(&of, |tensor| tensor.count_largest(size(count), &excluded))
        })
    }

    fn row_sum(&mut self, of: Handle) -> wasmtime::Result<Handle> {
        self.host_call(|context| context.reduce_rows(&of, Tensor::row_sum))
    }

    fn row_l2_norm(&mut self, of: Handle) -> wasmtime::Result<Handle> {
        self.host_call(|context| context.reduce_rows(&of, Tensor::row_l2_norm))
    }

    fn row_entropy(&mut self, of: Handle) -> wasmtime::Result<Handle> {
        self.host_call(|context| context.reduce_rows(&of, Tensor::row_entropy))
    }

    fn row_dot(&mut self, of: Handle, other: Handle) -> wasmtime::Result<Result<Handle, Error>> {
        self.host_call(|context| context.combine_into((&of, &other), |of, _| of.rows(), Tensor::row_dot))
    }

    fn row_cosine(&mut self, of: Handle, other: Handle) -> wasmtime::Result<Result<Handle, Error>> {
        self.host_call(|context| context.combine_into((&of, &other), |of, _| of.rows(), Tensor::row_cosine))
    }

    fn scale_rows(&mut self, of: Handle, factors: Handle) -> wasmtime::Result<Result<Handle, Error>> {
        self.host_call(|context| context.combine(&of, &factors, Tensor::scale_rows))
    }

    fn scale_columns(&mut self, of: Handle, factors: Handle) -> wasmtime::Result<Result<Handle, Error>> {
        self.host_call(|context| context.combine(&of, &factors, Tensor::scale_columns))
    }

    fn reshape(&mut self, of: Handle, shape: Vec<u32>) -> wasmtime::Result<Result<Handle, Error>> {
        self.host_call(|context| {
            let shape = shape.into_iter().map(size).collect();
            let values = |tensor: &Tensor| tensor.values().len();
            context.derive(&of, values, Error::ShapeMismatch, |tensor| tensor.reshape(shape))
        })
    }

    fn select_columns(
        &mut self,
        of: Handle,
        first: u32,
        count: u32,
    ) -> wasmtime::Result<Result<Handle, Error>> {
        self.host_call(|context| {
            let values = |tensor: &Tensor| tensor.rows().saturating_mul(size(count).min(tensor.columns()));
            context.derive(&of, values, Error::InvalidArgument, |tensor| {
                tensor.select_columns(size(first), size(count))
            })
        })
    }

    fn matrix_product(&mut self, of: Handle, other: Handle) -> wasmtime::Result<Result<Handle, Error>> {
        self.host_call(|context| {
            let cost = context.tensor(&of)?.product_cost(&*context.tensor(&other)?);
            if let Err(error) = context.check_product(cost.unwrap_or(0)) {
                return Ok(Err(error));
            }
            let values = |of: &Tensor, other: &Tensor| of.rows().saturating_mul(other.columns());
            context.combine_into((&of, &other), values, Tensor::matrix_product)
        })
    }

    fn gram(&mut self, of: Handle) -> wasmtime::Result<Result<Handle, Error>> {
        self.host_call(|context| {
            let tensor = context.tensor(&of)?;
            let columns = tensor.columns();
            if let Err(error) =
                context.check_product((tensor.values().len() as u64).saturating_mul(columns as u64))
            {
                return Ok(Err(error));
            }
            context.reserve(columns.saturating_mul(columns))?;
            context.keep(Arc::new(tensor.gram())).map(Ok)
        })
    }

    fn outer(&mut self, of: Handle, other: Handle) -> wasmtime::Result<Result<Handle, Error>> {
        self.host_call(|context| {
            let values = |of: &Tensor, other: &Tensor| of.values().len().saturating_mul(other.values().len());
            context.combine_into((&of, &other), values, Tensor::outer)
        })
    }

    fn transpose(&mut self, of: Handle) -> wasmtime::Result<Result<Handle, Error>> {
        self.host_call(|context| {
            context.derive(&of, |tensor| tensor.values().len(), Error::ShapeMismatch, Tensor::transpose)
        })
    }

    fn add(&mut self, of: Handle, other: Handle) -> wasmtime::Result<Result<Handle, Error>> {
        self.host_call(|context| context.combine(&of, &other, Tensor::add))
    }

    fn subtract(&mut self, of: Handle, other: Handle) -> wasmtime::Result<Result<Handle, Error>> {
        self.host_call(|context| context.combine(&of, &other, Tensor::sub))
    }

    fn divide(&mut self, of: Handle, other: Handle) -> wasmtime::Result<Result<Handle, Error>> {
        self.host_call(|context| context.combine(&of, &other, Tensor::div))
    }

    fn multiply(&mut self, of: Handle, other: Handle) -> wasmtime::Result<Result<Handle, Error>> {
        self.host_call(|context| context.combine(&of, &other, Tensor::mul))
    }

    fn scale(&mut self, of: Handle, factor: f32) -> wasmtime::Result<Handle> {
        self.host_call(|context| context.map(&of, |tensor| tensor.scale(factor)))
    }

    fn absolute(&mut self, of: Handle) -> wasmtime::Result<Handle> {
        self.host_call(|context| context.map(&of, Tensor::abs))
    }

    fn square_root(&mut self, of: Handle) -> wasmtime::Result<Handle> {
        self.host_call(|context| context.map(&of, Tensor::sqrt))
    }

    fn exponential(&mut self, of: Handle) -> wasmtime::Result<Handle> {
        self.host_call(|context| context.map(&of, Tensor::exp))
    }

    fn logarithm(&mut self, of: Handle) -> wasmtime::Result<Handle> {
        self.host_call(|context| context.map(&of, Tensor::ln))
    }

    fn accumulate(&mut self, of: Handle, other: Handle) -> wasmtime::Result<Result<(), Error>> {
        self.host_call(|context| context.update(&of, &other, Tensor::add))
    }

    fn accumulate_squares(&mut self, of: Handle, other: Handle) -> wasmtime::Result<Result<(), Error>> {
        self.host_call(|context| context.update(&of, &other, |sum, value| sum.add(&value.mul(value)?)))
    }

    fn top_k(&mut self, of: Handle, count: u32) -> wasmtime::Result<Result<Vec<(u32, f32)>, Error>> {
        self.host_call(|context| {
            let tensor = context.tensor(&of)?;
            if let rank @ (0 | 2..) = tensor.shape().len() {
                return Ok(Err(Error::ShapeMismatch(format!(
                    "top-k of a tensor of rank {rank}, expected rank 1"
                ))));
            }
            let count = usize::try_from(count).unwrap_or(usize::MAX).min(tensor.values().len());
            let limit = context.limits.read_values;
            if count > limit {
                return Ok(Err(Error::TooLarge(format!("{count} values, the limit of one read is {limit}"))));
            }
            let found = tensor.top_k(count).into_iter();
            Ok(Ok(found.map(|(index, value)| (u32::try_from(index).unwrap_or(u32::MAX), value)).collect()))
        })
    }

    fn drop(&mut self, of: Handle) -> wasmtime::Result<()> {
        self.host_call(|context| context.release(of))
    }
}
