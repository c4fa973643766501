//! `espalier:kernels/tensor`: handles in the guest, values in the host.
//!
//! Every operation asks the quota for its result's room before it computes.

use std::sync::Arc;

use espalier_kernels::{KernelError, Tensor};
use wasmtime::component::Resource;

use crate::bindings::interfaces::tensor::{Host, HostTensor as HostTensorMethods};
use crate::bindings::interfaces::types::Error;
use crate::context::{Context, HostTensor};

type Handle = Resource<HostTensor>;

impl Context {
    /// A new tensor of the same shape.
    fn map(&mut self, of: &Handle, operation: impl FnOnce(&Tensor) -> Tensor) -> wasmtime::Result<Handle> {
        let tensor = self.tensor(of)?;
        self.reserve(tensor.values().len())?;
        self.keep(Arc::new(operation(&tensor)))
    }

    /// A new tensor with one value per column.
    fn reduce(&mut self, of: &Handle, reduction: impl FnOnce(&Tensor) -> Tensor) -> wasmtime::Result<Handle> {
        let tensor = self.tensor(of)?;
        // A tensor without rows may still have more columns than fit in memory.
        self.reserve(tensor.columns())?;
        self.keep(Arc::new(match tensor.rows() {
            0 => Tensor::from_vec(vec![0.0; tensor.columns()]),
            _ => reduction(&tensor),
        }))
    }

    /// A new tensor from two, whose shapes the operation checks.
    fn combine(
        &mut self,
        a: &Handle,
        b: &Handle,
        operation: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor, KernelError>,
    ) -> wasmtime::Result<Result<Handle, Error>> {
        let (a, b) = (self.tensor(a)?, self.tensor(b)?);
        self.reserve(a.values().len())?;
        match operation(&a, &b) {
            Ok(tensor) => self.keep(Arc::new(tensor)).map(Ok),
            Err(error) => Ok(Err(Error::ShapeMismatch(error.to_string()))),
        }
    }

    /// Replaces a tensor's values by those of an operation on it and another.
    fn update(
        &mut self,
        of: &Handle,
        by: &Handle,
        operation: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor, KernelError>,
    ) -> wasmtime::Result<Result<(), Error>> {
        let (old, by) = (self.tensor(of)?, self.tensor(by)?);
        match operation(&old, &by) {
            Ok(new) => self.replace(of, new).map(Ok),
            Err(error) => Ok(Err(Error::ShapeMismatch(error.to_string()))),
        }
    }

    /// A new tensor of this shape, which must be of rank 1 to 3.
    fn create(
        &mut self,
        shape: &[u32],
        fill: impl FnOnce(usize) -> Vec<f32>,
    ) -> wasmtime::Result<Result<Handle, Error>> {
        if !(1..=3).contains(&shape.len()) {
            let rank = shape.len();
            return Ok(Err(Error::InvalidArgument(format!("a shape of rank {rank}, expected rank 1 to 3"))));
        }
        let axes: Vec<usize> =
            shape.iter().map(|axis| usize::try_from(*axis).unwrap_or(usize::MAX)).collect();
        let size = axes.iter().fold(1_usize, |size, axis| size.saturating_mul(*axis));
        self.reserve(size)?;
        match Tensor::new(axes, fill(size)) {
            Ok(tensor) => self.keep(Arc::new(tensor)).map(Ok),
            Err(error) => Ok(Err(Error::ShapeMismatch(error.to_string()))),
        }
    }
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
        self.host_call(|context| {
            let tensor = context.tensor(&of)?;
            let group = usize::try_from(group).unwrap_or(usize::MAX);
            context.reserve(tensor.values().len().checked_div(group).unwrap_or(0))?;
            match tensor.grouped_l2_norm(group) {
                Ok(norms) => context.keep(Arc::new(norms)).map(Ok),
                Err(error) => Ok(Err(Error::InvalidArgument(error.to_string()))),
            }
        })
    }

    fn add(&mut self, of: Handle, other: Handle) -> wasmtime::Result<Result<Handle, Error>> {
        self.host_call(|context| context.combine(&of, &other, Tensor::add))
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
