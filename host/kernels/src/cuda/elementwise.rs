//! Norms and activations.

use std::ops::Range;

use super::Cuda;
use super::buffer::CudaBuffer;
use super::launch::{Argument, Grid};
use super::program::Program;
use crate::KernelError;

/// How gate and up are joined.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum CudaActivation {
    /// `silu(gate) · up`.
    Silu,
    /// gpt-oss's (`modeling_gpt_oss.py`), with a limit above 0.
    ClampedSwiglu {
        /// Factor inside the sigmoid.
        alpha: f32,
        /// Bound on gate and up.
        limit: f32,
    },
}

impl Cuda {
    /// `output[r] = rms_norm(input[selected[r]]) · weight` for the rows `rows` of the weight's width, of the input's
    /// rows in turn where none are selected.
    ///
    /// # Errors
    /// Buffers that are too short.
    pub fn rms_norm(
        &self,
        input: &CudaBuffer<f32>,
        (weight, epsilon): (&CudaBuffer<f32>, f32),
        selected: Option<&CudaBuffer<i32>>,
        rows: Range<usize>,
        output: &mut CudaBuffer<f32>,
    ) -> Result<(), KernelError> {
        let width = weight.len();
        match selected {
            Some(selected) => selected.check("rows to normalise", rows.end)?,
            None => input.check("rows to normalise", rows.end * width)?,
        }
        output.check("normalised rows", rows.end * width)?;
        let (input, selected) = match selected {
            Some(selected) => (input.argument(), selected.argument_at(rows.start)),
            None => (input.argument_at(rows.start * width), Argument::Address(0)),
        };
        let arguments = [
            input,
            weight.argument(),
            selected,
            output.argument_at(rows.start * width),
            Argument::int("the width of a norm", width)?,
            Argument::Float(epsilon),
        ];
        // SAFETY: the arguments are the kernel's; the buffers were checked, selected rows are the caller's word.
        unsafe {
            self.launch(Program::Elementwise, "rms_norm", Grid::new([rows.len(), 1, 1], 256), &arguments)
        }
    }

    /// Joins gate and up for `length` values, in `gate`.
    ///
    /// # Errors
    /// Buffers that are too short.
    pub fn activate(
        &self,
        gate: &mut CudaBuffer<f32>,
        up: &CudaBuffer<f32>,
        activation: CudaActivation,
        range: Range<usize>,
    ) -> Result<(), KernelError> {
        gate.check("gates", range.end)?;
        up.check("values beside gates", range.end)?;
        let (alpha, limit) = match activation {
            CudaActivation::Silu => (0.0, 0.0),
            CudaActivation::ClampedSwiglu { alpha, limit } => (alpha, limit),
        };
        let arguments = [
            gate.argument_at(range.start),
            up.argument_at(range.start),
            Argument::Float(alpha),
            Argument::Float(limit),
            Argument::Long(range.len() as u64),
        ];
        // SAFETY: the arguments are the kernel's; the buffers were checked.
        unsafe { self.launch(Program::Elementwise, "activate", Grid::of_values(range.len()), &arguments) }
    }
}
