//! GGUF files: one memory-mapped file with metadata, tokenizer and tensors.
//!
//! [`parse()`] knows the container and no model; `architecture` reads a model's shape from the metadata;
//! `tensor_names` turns ggml's names into HF's; `tokenizer` rebuilds the tokenizer's files.

#![deny(clippy::indexing_slicing)]

mod architecture;
mod architecture_metadata;
mod cursor;
mod metadata;
mod parse;
mod tensor_names;
mod tensor_type;
mod tokenizer;
mod value;
mod vocabulary;
mod write;

use std::path::Path;

use espalier_kernels::Bytes;

pub use self::metadata::Metadata;
pub use self::parse::{Gguf, GgufTensor, parse};
#[cfg(test)]
pub(crate) use self::tensor_type::number as tensor_type_number;
pub use self::tokenizer::tokenizer_files;
pub use self::value::{Array, Value};
pub use self::write::{write_gguf, write_gguf_in_parts};
use crate::checkpoint::{Contents, TokenizerSource};
use crate::error::ModelError;
use crate::layout::Layout;
use crate::spec::{Architecture, ModelSpec};
use crate::stored_tensor::StoredTensor;

/// Opens a GGUF file by memory map.
pub(crate) fn open(path: &Path) -> Result<Contents, ModelError> {
    let bytes = Bytes::map_file(path).map_err(|source| ModelError::io("map", path, source))?;
    if !bytes.as_slice().starts_with(b"GGUF") {
        let found =
            if bytes.is_empty() { "an empty file" } else { "a file that doesn't begin with \"GGUF\"" };
        return Err(ModelError::UnknownFormat { path: path.to_owned(), found: found.to_owned() });
    }
    read(&bytes).map_err(|error| error.in_file(path))
}

fn read(bytes: &Bytes) -> Result<Contents, ModelError> {
    let Gguf { metadata, tensors: entries } = parse(bytes.as_slice())?;
    let spec = architecture::spec(&metadata, &entries, bytes)?;
    spec.validate()?;
    let mut tensors = Vec::with_capacity(entries.len());
    for entry in entries {
        if entry.name == architecture::ROPE_FACTORS {
            continue;
        }
        let stored = bytes.slice(entry.range.clone())?;
        let name = tensor_names::hf_name(&entry.name).unwrap_or_else(|| entry.name.clone());
        let tensor = match permuted_heads(&spec, &entry.name) {
            None => StoredTensor::new(name, entry.format, entry.shape, stored)?,
            Some(heads) => {
                let layout = Layout::InterleavedRows { bytes: stored, heads };
                StoredTensor::with_layout(name, entry.format, entry.shape, layout)?
            }
        };
        tensors.push(tensor);
    }
    Ok(Contents { spec, tensors, tokenizer_files: TokenizerSource::Gguf(Box::new(metadata)) })
}

/// The heads of a tensor whose rows llama.cpp's converter permutes: q and k of Llama, and of nothing else here.
fn permuted_heads(spec: &ModelSpec, name: &str) -> Option<usize> {
    if spec.architecture != Architecture::Llama {
        return None;
    }
    let (layer, name) = tensor_names::in_layer(name)?;
    let layer = spec.layers.get(layer)?;
    match name {
        "attn_q.weight" | "attn_q.bias" => Some(layer.heads),
        "attn_k.weight" | "attn_k.bias" => Some(layer.kv_heads),
        _ => None,
    }
}
