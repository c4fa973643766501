//! From tensors to slices and back.

use std::cell::Cell;

use candle_core::{CpuStorage, Device, Error, InplaceOp1, Layout, Result, Shape, Storage, Tensor};

use crate::error::TrainingError;

/// Hands the values of a tensor, whose rows must lie one after the other, to `read`.
pub(crate) fn read<R>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => read(slice(storage, layout)?),
        _ => Err(Error::msg("a tensor is on another device, expected the processor")),
    }
}

/// Hands the values of a variable, whose rows must lie one after the other, to `change`.
pub(crate) fn change(variable: &Tensor, change: impl FnOnce(&mut [f32])) -> Result<()> {
    variable.inplace_op1(&Change(Cell::new(Some(change))))
}

struct Change<F>(Cell<Option<F>>);

impl<F: FnOnce(&mut [f32])> InplaceOp1 for Change<F> {
    fn name(&self) -> &'static str {
        "change"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let CpuStorage::F32(values) = storage else { return Err(Error::msg("a variable is not f32")) };
        let place = layout.contiguous_offsets().and_then(|(start, end)| values.get_mut(start..end));
        let values =
            place.ok_or_else(|| Error::msg("the rows of a variable do not lie one after the other"))?;
        if let Some(change) = self.0.take() {
            change(values);
        }
        Ok(())
    }
}

/// The values of a tensor.
pub(crate) fn to_vec(tensor: &Tensor) -> Result<Vec<f32>> {
    read(&tensor.contiguous()?, |values| Ok(values.to_vec()))
}

/// The tensor as the kernels and policies have it.
pub(crate) fn to_kernel_tensor(
    tensor: &Tensor,
) -> std::result::Result<espalier_kernels::Tensor, TrainingError> {
    Ok(espalier_kernels::Tensor::new(tensor.dims().to_vec(), to_vec(tensor)?)?)
}

/// The values that `layout` points to in `storage`.
pub(crate) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) = layout.contiguous_offsets().ok_or_else(|| {
        Error::msg(format!("a tensor has the strides {:?}, expected contiguous rows", layout.stride()))
    })?;
    let values = storage.as_slice::<f32>()?;
    let count = values.len();
    values.get(start..end).ok_or_else(|| {
        Error::msg(format!("a tensor ends at {end} in a storage of {count} values, expected less"))
    })
}

/// A tensor that no gradient flows through.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &Device::Cpu)
}

/// What an operation returns.
pub(crate) fn output(values: Vec<f32>, shape: impl Into<Shape>) -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(values), shape.into()))
}
