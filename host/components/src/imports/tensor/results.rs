//! How the result of an operation on tensors gets its room and its handle.
//!
//! Every operation asks the quota for its result's room before it computes.

use std::sync::Arc;

use espalier_kernels::{KernelError, Tensor};

use super::{Handle, size};
use crate::bindings::interfaces::types::Error;
use crate::context::Context;

impl Context {
    /// A new tensor of the same shape.
    pub(super) fn map(
        &mut self,
        of: &Handle,
        operation: impl FnOnce(&Tensor) -> Tensor,
    ) -> wasmtime::Result<Handle> {
        let tensor = self.tensor(of)?;
        self.reserve(tensor.values().len())?;
        self.keep(Arc::new(operation(&tensor)))
    }

    /// A new tensor with one value per column.
    pub(super) fn reduce(
        &mut self,
        of: &Handle,
        reduction: impl FnOnce(&Tensor) -> Tensor,
    ) -> wasmtime::Result<Handle> {
        let tensor = self.tensor(of)?;
        // A tensor without rows may still have more columns than fit in memory.
        self.reserve(tensor.columns())?;
        self.keep(Arc::new(match tensor.rows() {
            0 => Tensor::from_vec(vec![0.0; tensor.columns()]),
            _ => reduction(&tensor),
        }))
    }

    /// A new tensor with one value per row.
    pub(super) fn reduce_rows(
        &mut self,
        of: &Handle,
        reduction: impl FnOnce(&Tensor) -> Tensor,
    ) -> wasmtime::Result<Handle> {
        let tensor = self.tensor(of)?;
        self.reserve(tensor.rows())?;
        self.keep(Arc::new(reduction(&tensor)))
    }

    /// A new tensor with one value per group of columns.
    pub(super) fn grouped(
        &mut self,
        of: &Handle,
        group: u32,
        reduction: impl FnOnce(&Tensor, usize) -> Result<Tensor, KernelError>,
    ) -> wasmtime::Result<Result<Handle, Error>> {
        self.host_call(|context| {
            let values = |tensor: &Tensor| tensor.values().len().checked_div(size(group)).unwrap_or(0);
            context.derive(of, values, Error::InvalidArgument, |tensor| reduction(tensor, size(group)))
        })
    }

    /// A new tensor from two, whose shapes the operation checks; it has at most `values` values.
    pub(super) fn combine_into(
        &mut self,
        (a, b): (&Handle, &Handle),
        values: impl FnOnce(&Tensor, &Tensor) -> usize,
        operation: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor, KernelError>,
    ) -> wasmtime::Result<Result<Handle, Error>> {
        let (a, b) = (self.tensor(a)?, self.tensor(b)?);
        self.reserve(values(&a, &b))?;
        self.finish(operation(&a, &b), Error::ShapeMismatch)
    }

    /// A new tensor of the first one's shape.
    pub(super) fn combine(
        &mut self,
        a: &Handle,
        b: &Handle,
        operation: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor, KernelError>,
    ) -> wasmtime::Result<Result<Handle, Error>> {
        self.combine_into((a, b), |a, _| a.values().len(), operation)
    }

    /// A new tensor with at most `values` values, by an operation whose argument may be wrong.
    pub(super) fn derive(
        &mut self,
        of: &Handle,
        values: impl FnOnce(&Tensor) -> usize,
        wrong: impl FnOnce(String) -> Error,
        operation: impl FnOnce(&Tensor) -> Result<Tensor, KernelError>,
    ) -> wasmtime::Result<Result<Handle, Error>> {
        let tensor = self.tensor(of)?;
        self.reserve(values(&tensor))?;
        self.finish(operation(&tensor), wrong)
    }

    fn finish(
        &mut self,
        result: Result<Tensor, KernelError>,
        wrong: impl FnOnce(String) -> Error,
    ) -> wasmtime::Result<Result<Handle, Error>> {
        match result {
            Ok(tensor) => self.keep(Arc::new(tensor)).map(Ok),
            Err(error) => Ok(Err(wrong(error.to_string()))),
        }
    }

    /// Refuses a product that would keep the host busy for too long.
    pub(super) fn check_product(&self, multiplications: u64) -> Result<(), Error> {
        let limit = self.limits.multiplications;
        if multiplications > limit {
            let found = format!("{multiplications} multiplications, the limit of one call is {limit}");
            return Err(Error::TooLarge(found));
        }
        Ok(())
    }

    /// Replaces a tensor's values by those of an operation on it and another.
    pub(super) fn update(
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
    pub(super) fn create(
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
