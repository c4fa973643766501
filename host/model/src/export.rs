//! A checkpoint in another file format.

use std::path::Path;

use espalier_kernels::WeightFormat;

use crate::checkpoint::{Checkpoint, CheckpointFormat};
use crate::error::ModelError;
use crate::gguf::write_gguf;
use crate::hugging_face::write_hugging_face;
use crate::stored_tensor::StoredTensor;
use crate::tensor_plan::TensorPlan;

const EMBEDDING: &str = "model.embed_tokens.weight";

/// Writes `checkpoint` as an HF directory. With a `format`, all weights get it, except that MXFP4 is for gpt-oss's
/// experts alone. What gets none keeps the format and the bytes that it has where such a directory can hold them, and
/// becomes bf16 where it can't. The vectors that GGUF has in f32 get back the embedding's format if that changes no
/// value, so that a model which went into GGUF comes out of it the same.
///
/// # Errors
/// See [`write_hugging_face`]; also an f16 that would overflow, by the tensor's name.
pub fn export_hugging_face(
    checkpoint: &Checkpoint,
    out: &Path,
    format: Option<WeightFormat>,
) -> Result<(), ModelError> {
    let narrow = checkpoint.tensor(EMBEDDING)?.format;
    let narrows = checkpoint.format() == CheckpointFormat::Gguf && narrow != WeightFormat::F32;
    let target = |tensor: &StoredTensor| match (format, tensor.format) {
        (Some(WeightFormat::Mxfp4), _) | (None, WeightFormat::Mxfp4) if is_expert(tensor) => {
            WeightFormat::Mxfp4
        }
        (None, WeightFormat::F32) if narrows && !is_matrix(tensor) && is_exact(tensor, narrow) => narrow,
        (None | Some(WeightFormat::Mxfp4), WeightFormat::F32 | WeightFormat::F16) => tensor.format,
        (None | Some(WeightFormat::Mxfp4), _) => WeightFormat::Bf16,
        (Some(format), _) => format,
    };
    let plans = plans(checkpoint, target);
    let files = checkpoint.tokenizer_files()?;
    write_hugging_face(out, checkpoint.spec(), &files, &plans, &mut |plan| {
        checkpoint.tensor(&plan.name)?.bytes_in(plan.format)
    })
}

/// Writes `checkpoint` as a GGUF file. Without a `format`, matrices keep theirs and their bytes; with one, all get it,
/// except that MXFP4 is for the experts alone in a model that has some. Norms, biases, sinks and routers always become
/// f32, the only form that ggml has for what is done with them.
///
/// # Errors
/// See [`write_gguf`]; also a format that nothing is quantised to, or rows that aren't whole blocks of it.
pub fn export_gguf(
    checkpoint: &Checkpoint,
    out: &Path,
    format: Option<WeightFormat>,
) -> Result<(), ModelError> {
    let has_experts = checkpoint.spec().layers.iter().any(|layer| layer.experts.is_some());
    let target = |tensor: &StoredTensor| match format {
        _ if !is_matrix(tensor) => WeightFormat::F32,
        Some(WeightFormat::Mxfp4) if has_experts && !is_expert(tensor) => tensor.format,
        Some(format) => format,
        None => tensor.format,
    };
    let plans = plans(checkpoint, target);
    let files = checkpoint.tokenizer_files()?;
    write_gguf(out, checkpoint.spec(), &files, &plans, &mut |plan| {
        checkpoint.tensor(&plan.name)?.bytes_in(plan.format)
    })
}

/// Whether ggml may have the tensor in another format than f32.
fn is_matrix(tensor: &StoredTensor) -> bool {
    tensor.shape.len() > 1 && tensor.name.ends_with(".weight") && !tensor.name.ends_with(".mlp.router.weight")
}

/// Whether every value has an exact counterpart in f16 or bf16.
fn is_exact(tensor: &StoredTensor, format: WeightFormat) -> bool {
    let Ok(values) = tensor.to_f32() else { return false };
    match format {
        WeightFormat::F16 => values.iter().all(|&value| half::f16::from_f32(value).to_f32() == value),
        WeightFormat::Bf16 => values.iter().all(|&value| half::bf16::from_f32(value).to_f32() == value),
        _ => false,
    }
}

/// Whether a tensor is a weight matrix of experts.
fn is_expert(tensor: &StoredTensor) -> bool {
    tensor.name.contains(".mlp.experts.") && tensor.name.ends_with(".weight")
}

fn plans(checkpoint: &Checkpoint, target: impl Fn(&StoredTensor) -> WeightFormat) -> Vec<TensorPlan> {
    let plan = |tensor: &StoredTensor| {
        let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
        TensorPlan { name, format: target(tensor), shape }
    };
    checkpoint.tensors().map(plan).collect()
}
