//! A checkpoint in another file format.

use std::path::Path;

use espalier_kernels::WeightFormat;

use crate::checkpoint::Checkpoint;
use crate::error::ModelError;
use crate::gguf::write_gguf;
use crate::hugging_face::write_hugging_face;
use crate::stored_tensor::StoredTensor;
use crate::tensor_plan::TensorPlan;

/// Writes `checkpoint` as an HF directory. With a `format`, all weights get it. Without, tensors keep the format and
/// the bytes that they have where such a directory can hold them (f32, f16, bf16, MXFP4 of gpt-oss's experts), and
/// what is quantised otherwise becomes bf16.
///
/// # Errors
/// See [`write_hugging_face`]; also an f16 that would overflow, by the tensor's name.
pub fn export_hugging_face(
    checkpoint: &Checkpoint,
    out: &Path,
    format: Option<WeightFormat>,
) -> Result<(), ModelError> {
    let kept = |tensor: &StoredTensor| match tensor.format {
        format @ (WeightFormat::F32 | WeightFormat::F16 | WeightFormat::Bf16) => format,
        WeightFormat::Mxfp4 if tensor.name.contains(".mlp.experts.") => WeightFormat::Mxfp4,
        _ => WeightFormat::Bf16,
    };
    let format = |tensor: &StoredTensor| format.unwrap_or_else(|| kept(tensor));
    let plans: Vec<TensorPlan> = checkpoint.tensors().map(|tensor| plan(tensor, format(tensor))).collect();
    let files = checkpoint.tokenizer_files()?;
    write_hugging_face(out, checkpoint.spec(), &files, &plans, &mut |plan| {
        checkpoint.tensor(&plan.name)?.bytes_in(plan.format)
    })
}

/// Writes `checkpoint` as a GGUF file. Without a `format`, matrices keep theirs and their bytes; norms, biases, sinks
/// and routers always become f32, the only form that ggml has for what is done with them.
///
/// # Errors
/// See [`write_gguf`]; also a format that nothing is quantised to, or rows that aren't whole blocks of it.
pub fn export_gguf(
    checkpoint: &Checkpoint,
    out: &Path,
    format: Option<WeightFormat>,
) -> Result<(), ModelError> {
    let format = |tensor: &StoredTensor| {
        let matrix = tensor.shape.len() > 1 && tensor.name.ends_with(".weight");
        let router = tensor.name.ends_with(".mlp.router.weight");
        if matrix && !router { format.unwrap_or(tensor.format) } else { WeightFormat::F32 }
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
