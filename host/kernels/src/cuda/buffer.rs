//! Arrays in the device's memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cudarc::driver::{CudaSlice, DevicePtr, DeviceRepr, ValidAsZeroBits};

use super::launch::Argument;
use super::{Cuda, failed};
use crate::KernelError;

/// Numbers in the device's memory.
pub struct CudaBuffer<T> {
    slice: CudaSlice<T>,
    address: u64,
    /// Counts the buffers of the handle that are no more.
    freed: Arc<AtomicU64>,
}

impl<T> Drop for CudaBuffer<T> {
    fn drop(&mut self) {
        self.freed.fetch_add(1, Ordering::AcqRel);
    }
}

impl<T: DeviceRepr + ValidAsZeroBits> CudaBuffer<T> {
    fn new(slice: CudaSlice<T>, freed: &Arc<AtomicU64>) -> Self {
        let address = {
            let (address, _) = slice.device_ptr(slice.stream());
            address
        };
        Self { slice, address, freed: Arc::clone(freed) }
    }

    /// How many numbers.
    pub fn len(&self) -> usize {
        self.slice.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slice.is_empty()
    }

    /// Where it lies, as a kernel's argument.
    pub(super) fn argument(&self) -> Argument {
        Argument::Address(self.address)
    }

    /// Where number `index` lies, which the caller has checked to be there.
    pub(super) fn argument_at(&self, index: usize) -> Argument {
        Argument::Address(self.address + (index * size_of::<T>()) as u64)
    }

    /// Fails unless there are at least `needed` numbers.
    pub(super) fn check(&self, what: &'static str, needed: usize) -> Result<(), KernelError> {
        if needed <= self.len() {
            Ok(())
        } else {
            Err(KernelError::OutOfRange { what, found: needed, limit: self.len() + 1 })
        }
    }
}

/// The address of a buffer that may be missing.
pub(super) fn optional<T: DeviceRepr + ValidAsZeroBits>(buffer: Option<&CudaBuffer<T>>) -> Argument {
    buffer.map_or(Argument::Address(0), CudaBuffer::argument)
}

impl Cuda {
    /// Zeros.
    ///
    /// # Errors
    /// When the device has no such memory left.
    pub fn zeros<T: DeviceRepr + ValidAsZeroBits>(
        &self,
        length: usize,
    ) -> Result<CudaBuffer<T>, KernelError> {
        // The driver gives no empty arrays.
        let slice = self.stream.alloc_zeros(length.max(1));
        let bytes = length.saturating_mul(size_of::<T>());
        slice.map(|slice| CudaBuffer::new(slice, &self.freed)).map_err(|error| out_of_memory(bytes, error))
    }

    /// Makes `buffer` at least `length` long. What was in it is lost if it grows.
    ///
    /// # Errors
    /// When the device has no such memory left; the buffer is as it was then.
    pub fn grow<T: DeviceRepr + ValidAsZeroBits>(
        &self,
        buffer: &mut CudaBuffer<T>,
        length: usize,
    ) -> Result<(), KernelError> {
        if buffer.len() < length {
            *buffer = self.zeros(length)?;
        }
        Ok(())
    }

    /// A copy of `values` in the device's memory.
    ///
    /// # Errors
    /// When the device has no such memory left.
    pub fn upload<T: DeviceRepr + ValidAsZeroBits>(
        &self,
        values: &[T],
    ) -> Result<CudaBuffer<T>, KernelError> {
        let mut buffer = self.zeros(values.len())?;
        self.write(&mut buffer, 0, values)?;
        Ok(buffer)
    }

    /// Overwrites the numbers from `start` on.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn write<T: DeviceRepr + ValidAsZeroBits>(
        &self,
        buffer: &mut CudaBuffer<T>,
        start: usize,
        values: &[T],
    ) -> Result<(), KernelError> {
        if values.is_empty() {
            return Ok(());
        }
        let (found, limit) = (start.saturating_add(values.len()), buffer.len() + 1);
        let Some(mut place) = buffer.slice.try_slice_mut(start..found) else {
            return Err(KernelError::OutOfRange { what: "a write to the device", found, limit });
        };
        self.stream.memcpy_htod(values, &mut place).map_err(|error| failed("copying to the device", error))
    }

    /// The first `length` numbers, when everything that was asked for before is done.
    ///
    /// # Errors
    /// When there are not so many; what a kernel did wrong before.
    pub fn download<T: DeviceRepr + ValidAsZeroBits + Clone + Default>(
        &self,
        buffer: &CudaBuffer<T>,
        length: usize,
    ) -> Result<Vec<T>, KernelError> {
        buffer.check("a read from the device", length)?;
        let mut values = vec![T::default(); length];
        if let Some(place) = buffer.slice.try_slice(0..length).filter(|_| length > 0) {
            self.stream
                .memcpy_dtoh(&place, &mut values)
                .map_err(|error| failed("copying from the device", error))?;
            self.synchronize()?;
        }
        Ok(values)
    }
}

fn out_of_memory(bytes: usize, error: cudarc::driver::DriverError) -> KernelError {
    if error.0 == cudarc::driver::sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
        KernelError::Memory { what: "a buffer on the CUDA device", bytes }
    } else {
        failed("reserving memory on the CUDA device", error)
    }
}
