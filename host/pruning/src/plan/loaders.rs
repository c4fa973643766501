//! What other programs load: their rules, checked before anything is cut.
//!
//! HF transformers, vLLM and llama.cpp have one number of heads, channels and experts for all layers. vLLM and llama.cpp
//! take gpt-oss's layers to slide when their index is even. All of them read MXFP4 in blocks of 32 columns. transformers
//! demands that the number of Llama's heads divides the hidden size, llama.cpp that Qwen2's heads together are as wide as
//! the hidden size.

use espalier_model::{Architecture, LayerSpec, ModelSpec};

use super::constraints::MXFP4_BLOCK;
use super::{Constraints, Layout};
use crate::error::PruningError;
use crate::storage::{NumberFormat, Storage};

const ALL: &str = "HF transformers, vLLM and llama.cpp";

/// Whether the loaders that the constraints name load `after`.
pub(super) fn check(
    before: &ModelSpec,
    after: &ModelSpec,
    storage: &Storage,
    constraints: &Constraints,
) -> Result<(), PruningError> {
    check_blocks(after, storage)?;
    if constraints.layout == Layout::Espalier {
        return Ok(());
    }
    check_uniform(after)?;
    check_heads(before, after.layers.first().map_or(0, |layer| layer.heads), constraints)?;
    if alternates(before) && !alternates(after) {
        return Err(PruningError::LoaderRule {
            found: "the layers that are kept do not slide and attend fully in turn".to_owned(),
            loaders: "vLLM and llama.cpp",
            rule:
                "let every other layer slide, the first included: layers go in contiguous runs of even length"
                    .to_owned(),
        });
    }
    Ok(())
}

/// Whether `heads` query heads in a layer are loaded, where `before` has another number.
pub(super) fn check_heads(
    before: &ModelSpec,
    heads: usize,
    constraints: &Constraints,
) -> Result<(), PruningError> {
    let heads_before = before.layers.first().map_or(0, |layer| layer.heads);
    if constraints.layout == Layout::Espalier || heads == heads_before {
        return Ok(());
    }
    let hidden = before.hidden_size;
    let refused = |loaders, rule| {
        Err(PruningError::LoaderRule { found: format!("{heads} query heads are kept"), loaders, rule })
    };
    let divisor = constraints.heads_divide_hidden_size && before.architecture != Architecture::GptOss;
    if divisor && !hidden.is_multiple_of(heads) {
        return refused("HF transformers", format!("needs a divisor of the hidden size {hidden}"));
    }
    if before.architecture == Architecture::Qwen2 && heads_before * before.head_dim == hidden {
        return refused("llama.cpp", format!("needs all of Qwen2's, which fill the hidden size {hidden}"));
    }
    Ok(())
}

/// Whether layers slide and attend fully in turn, as gpt-oss's do.
pub(super) fn alternates(spec: &ModelSpec) -> bool {
    spec.layers.iter().any(|layer| layer.sliding_window.is_some())
        && spec
            .layers
            .iter()
            .enumerate()
            .all(|(index, layer)| layer.sliding_window.is_some() == index.is_multiple_of(2))
}

fn check_blocks(after: &ModelSpec, storage: &Storage) -> Result<(), PruningError> {
    let misfit = after
        .layers
        .iter()
        .find(|layer| layer.experts.is_some() && !layer.ffn_size.is_multiple_of(MXFP4_BLOCK));
    match misfit {
        Some(layer) if storage.experts == NumberFormat::Mxfp4 => Err(PruningError::Storage {
            found: format!("{} channels are kept in each expert", layer.ffn_size),
            rule: format!(
                "MXFP4, which {ALL} read in whole blocks, needs a multiple of {MXFP4_BLOCK}; another storage has no such rule"
            ),
        }),
        _ => Ok(()),
    }
}

fn check_uniform(after: &ModelSpec) -> Result<(), PruningError> {
    let counts = |layer: &LayerSpec| {
        let experts = layer.experts.map_or(0, |experts| experts.count);
        [
            ("query heads", layer.heads),
            ("key/value heads", layer.kv_heads),
            ("channels", layer.ffn_size),
            ("experts", experts),
        ]
    };
    let Some(first) = after.layers.first() else { return Ok(()) };
    for (index, layer) in after.layers.iter().enumerate() {
        for ((what, found), (_, expected)) in counts(layer).into_iter().zip(counts(first)) {
            if found != expected {
                return Err(PruningError::LoaderRule {
                    found: format!("layer {index} keeps {found} {what} and layer 0 keeps {expected}"),
                    loaders: ALL,
                    rule: "have one count for all layers".to_owned(),
                });
            }
        }
    }
    Ok(())
}
