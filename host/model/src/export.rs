//! A checkpoint in another file format.

use std::path::Path;

use espalier_kernels::WeightFormat;

use crate::checkpoint::Checkpoint;
use crate::error::ModelError;
use crate::gguf::write_gguf;
use crate::hugging_face::write_hugging_face;
use crate::stored_tensor::StoredTensor;
use crate::tensor_plan::TensorPlan;

/// Writes `checkpoint` as an HF directory with all weights in `format`; tensors that have it already are copied byte
/// for byte.
///
/// # Errors
/// See [`write_hugging_face`]; also an f16 that would overflow, by the tensor's name.
pub fn export_hugging_face(
    checkpoint: &Checkpoint,
    out: &Path,
    format: WeightFormat,
) -> Result<(), ModelError> {
    let plans: Vec<TensorPlan> = checkpoint.tensors().map(|tensor| plan(tensor, format)).collect();
    let files = checkpoint.tokenizer_files()?;
    write_hugging_face(out, checkpoint.spec(), &files, &plans, &mut |plan| {
        checkpoint.tensor(&plan.name)?.bytes_in(plan.format)
    })
}

/// Writes `checkpoint` as a GGUF file. Without a `format`, matrices keep theirs and their bytes; vectors (norms and
/// biases) always become f32, the only form that ggml adds and multiplies them in.
///
/// # Errors
/// See [`write_gguf`]; also a format that nothing is quantised to, or rows that aren't whole blocks of it.
pub fn export_gguf(
    checkpoint: &Checkpoint,
    out: &Path,
    format: Option<WeightFormat>,
) -> Result<(), ModelError> {
    let format = |tensor: &StoredTensor| match tensor.shape.len() {
        1 => WeightFormat::F32,
        _ => format.unwrap_or(tensor.format),
    };
    let plans: Vec<TensorPlan> = checkpoint.tensors().map(|tensor| plan(tensor, format(tensor))).collect();
    let files = checkpoint.tokenizer_files()?;
    write_gguf(out, checkpoint.spec(), &files, &plans, &mut |plan| {
        checkpoint.tensor(&plan.name)?.bytes_in(plan.format)
    })
}

fn plan(tensor: &StoredTensor, format: WeightFormat) -> TensorPlan {
    TensorPlan { name: tensor.name.clone(), format, shape: tensor.shape.clone() }
}
