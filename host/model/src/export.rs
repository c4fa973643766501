//! A checkpoint in another file format or other number formats.
//!
//! A tensor that keeps its format keeps its bytes. The writers give the rest: a part of a tensor in memory at a time, the
//! disk asked beforehand, and an output that appears complete or not at all.

#![deny(clippy::indexing_slicing)]

mod formats;
mod report;
mod requantize;

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use espalier_kernels::WeightFormat;

#[cfg(test)]
pub(crate) use self::formats::WRITTEN;
use self::formats::{gguf_format, hugging_face_format};
use self::report::SquaredError;
pub use self::report::{ConversionReport, FormatChange};
pub(crate) use self::requantize::requantize;
use crate::checkpoint::{Checkpoint, CheckpointFormat};
use crate::error::ModelError;
use crate::gguf::write_gguf_in_parts;
use crate::hugging_face::{Shapes, write_hugging_face_in_parts};
use crate::stored_tensor::{StoredTensor, tensor_bytes};
use crate::tensor_bytes::TensorBytes;
use crate::tensor_plan::TensorPlan;

/// What a copy is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// Its file format.
    pub container: CheckpointFormat,
    /// Its number format; `None` keeps the checkpoint's as far as the container has it.
    ///
    /// MXFP4 goes to the experts of a model that has some and changes nothing else. Else a format goes to all matrices in
    /// a GGUF file, except that MXFP4 spares the embedding and the head; and to all tensors of an HF directory. Norms,
    /// biases, sinks and routers of a GGUF file are f32, the only form that ggml has for what is done with them.
    pub format: Option<WeightFormat>,
}

/// Writes `checkpoint` to `out`, telling `progress` how many bytes of how many are done.
///
/// An HF directory becomes bf16 where it can't hold the checkpoint's own format. The vectors that GGUF has in f32 get back the
/// embedding's format there if that changes no value, so that a model which went into GGUF comes out of it the same.
///
/// # Errors
/// `out` exists; a format that nothing is quantised to, or that the container or the model has no place for; rows that
/// aren't whole blocks of it; an f16 that would overflow or a block with NaN in it, by the tensor's name; too little
/// space on the disk; I/O.
pub fn convert(
    checkpoint: &Checkpoint,
    out: &Path,
    conversion: Conversion,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ConversionReport, ModelError> {
    let plans = plans(checkpoint, conversion)?;
    let files = checkpoint.tokenizer_files()?;
    let sizes = plans.iter().map(|plan| tensor_bytes(&plan.name, plan.format, &plan.shape));
    let total: u64 = sizes.sum::<Result<_, _>>()?;
    let mut done = 0;
    let mut errors = HashMap::<String, SquaredError>::new();
    let mut produce = |plan: &TensorPlan, range: Range<usize>| {
        let part = checkpoint.tensor(&plan.name)?.slice(range.clone())?;
        let stored = part.bytes()?;
        let bytes = if part.format == plan.format {
            TensorBytes::from(stored)
        } else {
            let first = range.start * part.shape.iter().skip(1).product::<usize>();
            let (bytes, error) = requantize(&plan.name, part.format, stored.as_slice(), plan.format, first)?;
            errors.entry(plan.name.clone()).or_default().merge(error);
            TensorBytes::from(bytes)
        };
        done += bytes.len() as u64;
        progress(done, total);
        Ok(bytes)
    };
    match conversion.container {
        CheckpointFormat::Gguf => {
            write_gguf_in_parts(out, checkpoint.spec(), &files, &plans, &mut produce)?;
        }
        CheckpointFormat::HuggingFace => {
            let shapes = Shapes::Uniform;
            write_hugging_face_in_parts(out, checkpoint.spec(), &files, &plans, shapes, &mut produce)?;
        }
    }
    let mut report = ConversionReport::default();
    for plan in &plans {
        let source = checkpoint.tensor(&plan.name)?;
        report.add(source, plan.format, errors.get(&plan.name).copied().unwrap_or_default());
    }
    Ok(report)
}

/// [`convert`] to an HF directory.
///
/// # Errors
/// See there.
pub fn export_hugging_face(
    checkpoint: &Checkpoint,
    out: &Path,
    format: Option<WeightFormat>,
) -> Result<(), ModelError> {
    let conversion = Conversion { container: CheckpointFormat::HuggingFace, format };
    convert(checkpoint, out, conversion, &mut |_, _| {}).map(drop)
}

/// [`convert`] to a GGUF file.
///
/// # Errors
/// See there.
pub fn export_gguf(
    checkpoint: &Checkpoint,
    out: &Path,
    format: Option<WeightFormat>,
) -> Result<(), ModelError> {
    let conversion = Conversion { container: CheckpointFormat::Gguf, format };
    convert(checkpoint, out, conversion, &mut |_, _| {}).map(drop)
}

fn plans(checkpoint: &Checkpoint, conversion: Conversion) -> Result<Vec<TensorPlan>, ModelError> {
    let format_of = match conversion.container {
        CheckpointFormat::Gguf => gguf_format(checkpoint, conversion.format)?,
        CheckpointFormat::HuggingFace => hugging_face_format(checkpoint, conversion.format)?,
    };
    let plan = |tensor: &StoredTensor| {
        let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
        TensorPlan { name, format: format_of(tensor), shape }
    };
    Ok(checkpoint.tensors().map(plan).collect())
}
