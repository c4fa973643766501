//! A checkpoint in another file format or other number formats.
//!
//! A tensor that keeps its format keeps its bytes. The writers give the rest: one tensor in memory at a time (two where
//! HF stores two in one), the disk asked beforehand, and an output that appears complete or not at all.

#![deny(clippy::indexing_slicing)]

mod formats;
mod report;
mod requantize;

use std::path::Path;

use espalier_kernels::WeightFormat;

use self::formats::{gguf_format, hugging_face_format};
pub use self::report::{ConversionReport, FormatChange};
pub(crate) use self::requantize::requantize;
use crate::checkpoint::{Checkpoint, CheckpointFormat};
use crate::error::ModelError;
use crate::gguf::write_gguf;
use crate::hugging_face::write_hugging_face;
use crate::stored_tensor::{StoredTensor, tensor_bytes};
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
    let mut report = ConversionReport::default();
    let mut done = 0;
    let mut produce = |plan: &TensorPlan| {
        let source = checkpoint.tensor(&plan.name)?;
        let bytes = if source.format == plan.format {
            report.kept(source);
            source.bytes()?.as_slice().to_vec()
        } else {
            let (bytes, error) =
                requantize(&source.name, source.format, source.bytes()?.as_slice(), plan.format)?;
            report.changed(source, plan.format, error);
            bytes
        };
        done += bytes.len() as u64;
        progress(done, total);
        Ok(bytes)
    };
    match conversion.container {
        CheckpointFormat::Gguf => write_gguf(out, checkpoint.spec(), &files, &plans, &mut produce)?,
        CheckpointFormat::HuggingFace => {
            write_hugging_face(out, checkpoint.spec(), &files, &plans, &mut produce)?;
        }
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
