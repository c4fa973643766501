//! Which format each tensor of a copy gets.

use espalier_kernels::WeightFormat;

use crate::checkpoint::{Checkpoint, CheckpointFormat};
use crate::error::ModelError;
use crate::stored_tensor::StoredTensor;

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// The formats with a quantiser.
pub(crate) const WRITTEN: [WeightFormat; 7] = [
    WeightFormat::F32,
    WeightFormat::F16,
    WeightFormat::Bf16,
    WeightFormat::Q8_0,
    WeightFormat::Q4_0,
    WeightFormat::Q4_1,
    WeightFormat::Mxfp4,
];

/// A tensor's format in the copy.
pub(super) type FormatOf<'a> = Box<dyn Fn(&StoredTensor) -> WeightFormat + 'a>;

/// The formats in an HF directory.
pub(super) fn hugging_face_format(
    checkpoint: &Checkpoint,
    format: Option<WeightFormat>,
) -> Result<FormatOf<'_>, ModelError> {
    if let Some(format) = format.filter(|format| format.block_values() > 1) {
        let experts = has_experts(checkpoint);
        if format != WeightFormat::Mxfp4 || !experts {
            let model = checkpoint.spec().architecture.model_type();
            let supported = if experts { "f32, f16, bf16, mxfp4" } else { "f32, f16, bf16" };
            let what = format!("number format of an HF directory for {model}:");
            return Err(ModelError::unsupported(what, format.name(), supported));
        }
    }
    let narrow = checkpoint.tensor(EMBEDDING)?.format;
    let narrows = checkpoint.format() == CheckpointFormat::Gguf && narrow != WeightFormat::F32;
    Ok(Box::new(move |tensor| match (format, tensor.format) {
        (Some(WeightFormat::Mxfp4), _) | (None, WeightFormat::Mxfp4) if is_expert(tensor) => {
            WeightFormat::Mxfp4
        }
        (None, WeightFormat::F32)
            if narrows && !is_matrix(tensor) && fits_with_its_pair(checkpoint, tensor, narrow) =>
        {
            narrow
        }
        (None | Some(WeightFormat::Mxfp4), WeightFormat::F32 | WeightFormat::F16) => tensor.format,
        (None | Some(WeightFormat::Mxfp4), _) => WeightFormat::Bf16,
        (Some(format), _) => format,
    }))
}

/// The formats in a GGUF file.
pub(super) fn gguf_format(
    checkpoint: &Checkpoint,
    format: Option<WeightFormat>,
) -> Result<FormatOf<'_>, ModelError> {
    if let Some(format) = format.filter(|format| !WRITTEN.contains(format)) {
        let supported = WRITTEN.map(WeightFormat::name).join(", ");
        return Err(ModelError::unsupported("number format to write", format.name(), supported));
    }
    let experts = has_experts(checkpoint);
    Ok(Box::new(move |tensor| match format {
        _ if !is_matrix(tensor) => WeightFormat::F32,
        Some(WeightFormat::Mxfp4) if (experts && !is_expert(tensor)) || is_outside(tensor) => tensor.format,
        Some(format) => format,
        None => tensor.format,
    }))
}

fn has_experts(checkpoint: &Checkpoint) -> bool {
    checkpoint.spec().layers.iter().any(|layer| layer.experts.is_some())
}

/// Whether ggml may have the tensor in another format than f32.
fn is_matrix(tensor: &StoredTensor) -> bool {
    tensor.shape.len() > 1 && tensor.name.ends_with(".weight") && !tensor.name.ends_with(".mlp.router.weight")
}

/// Whether a tensor is a weight matrix of experts.
fn is_expert(tensor: &StoredTensor) -> bool {
    tensor.name.contains(".mlp.experts.") && tensor.name.ends_with(".weight")
}

/// The embedding and the head, whose errors weigh more than those of the layers.
fn is_outside(tensor: &StoredTensor) -> bool {
    matches!(tensor.name.as_str(), EMBEDDING | HEAD)
}

/// Whether narrowing changes no value, neither here nor in the tensor that HF stores in one with this one: experts'
/// gate and up biases have one format.
fn fits_with_its_pair(checkpoint: &Checkpoint, tensor: &StoredTensor, format: WeightFormat) -> bool {
    let pair = match tensor.name.rsplit_once(".experts.") {
        Some((prefix, "gate_proj.bias")) => Some(format!("{prefix}.experts.up_proj.bias")),
        Some((prefix, "up_proj.bias")) => Some(format!("{prefix}.experts.gate_proj.bias")),
        _ => None,
    };
    let pair = pair.and_then(|name| checkpoint.tensor(&name).ok());
    is_exact(tensor, format) && pair.is_none_or(|pair| is_exact(pair, format))
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
