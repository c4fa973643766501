//! Norms and activations.

use super::Cuda;
use super::buffer::{CudaBuffer, optional};
use super::launch::{Argument, Grid};
use super::program::Program;
use crate::KernelError;

impl Cuda {
    /// `output[r] = rms_norm(input[selected[r]]) · weight` for `rows` rows of the weight's width, of all rows in turn where
    /// none are selected.
    ///
    /// # Errors
    /// Buffers that are too short.
    pub fn rms_norm(
        &self,
        input: &CudaBuffer<f32>,
        weight: &CudaBuffer<f32>,
        epsilon: f32,
        selected: Option<&CudaBuffer<i32>>,
        rows: usize,
        output: &mut CudaBuffer<f32>,
    ) -> Result<(), KernelError> {
        let width = weight.len();
        match selected {
            Some(selected) => selected.check("rows to normalise", rows)?,
            None => input.check("rows to normalise", rows * width)?,
        }
        output.check("normalised rows", rows * width)?;
        let arguments = [
            input.argument(),
            weight.argument(),
            optional(selected),
            output.argument(),
            Argument::int("the width of a norm", width)?,
            Argument::Float(epsilon),
        ];
        // SAFETY: the arguments are the kernel's; the buffers were checked, selected rows are the caller's word.
        unsafe { self.launch(Program::Elementwise, "rms_norm", Grid::new([rows, 1, 1], 256), &arguments) }
    }

    /// `gate = silu(gate) · up` for `length` values.
    ///
    /// # Errors
    /// Buffers that are too short.
    pub fn silu_mul(
        &self,
        gate: &mut CudaBuffer<f32>,
        up: &CudaBuffer<f32>,
        length: usize,
    ) -> Result<(), KernelError> {
        gate.check("gates", length)?;
        up.check("values beside gates", length)?;
        let arguments = [gate.argument(), up.argument(), Argument::Long(length as u64)];
        // SAFETY: the arguments are the kernel's; the buffers were checked.
        unsafe { self.launch(Program::Elementwise, "silu_mul", Grid::of_values(length), &arguments) }
    }

    /// gpt-oss's gate: see the kernel.
    ///
    /// # Errors
    /// Buffers that are too short.
    pub fn clamped_swiglu(
        &self,
        gate: &mut CudaBuffer<f32>,
        up: &CudaBuffer<f32>,
        (alpha, limit): (f32, f32),
        length: usize,
    ) -> Result<(), KernelError> {
        gate.check("gates", length)?;
        up.check("values beside gates", length)?;
        let arguments = [
            gate.argument(),
            up.argument(),
            Argument::Float(alpha),
            Argument::Float(limit),
            Argument::Long(length as u64),
        ];
        // SAFETY: the arguments are the kernel's; the buffers were checked.
        unsafe { self.launch(Program::Elementwise, "clamped_swiglu", Grid::of_values(length), &arguments) }
    }
}
