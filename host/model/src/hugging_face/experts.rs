//! gpt-oss's experts in HF's files, and as one tensor for each projection.
//!
//! HF stores gate and up fused, their rows in turn (gate 0, up 0, gate 1, …). Quantised, `gate_up_proj_blocks` `[E, 2F,
//! D/32, 16]` and `gate_up_proj_scales` `[E, 2F, D/32]` hold MXFP4; unquantised, `gate_up_proj` is `[E, D, 2F]`, that
//! is, transposed. `down_proj` is alike. Here each projection is `[E, rows, columns]` with columns contracted.

use std::collections::HashMap;

use espalier_kernels::{Bytes, WeightFormat};

use super::StoredValues;
use crate::error::ModelError;
use crate::layout::{Layout, MXFP4_NIBBLES, Stride};
use crate::safetensors::Dtype;
use crate::stored_tensor::StoredTensor;

/// Values of an MXFP4 block.
const BLOCK: usize = 32;
const BLOCKS: &str = "_blocks";
const SCALES: &str = "_scales";

/// All tensors, experts taken apart.
pub(super) fn separate(stored: Vec<StoredValues>) -> Result<Vec<StoredTensor>, ModelError> {
    let (scales, stored): (Vec<_>, Vec<_>) =
        stored.into_iter().partition(|tensor| tensor.name.ends_with(SCALES));
    let mut scales: HashMap<String, StoredValues> =
        scales.into_iter().map(|tensor| (tensor.name.trim_end_matches(SCALES).to_owned(), tensor)).collect();
    let mut tensors = Vec::with_capacity(stored.len() + scales.len());
    for tensor in stored {
        if let Some(name) = tensor.name.strip_suffix(BLOCKS) {
            let name = name.to_owned();
            let scales = scales.remove(&name).ok_or_else(|| {
                ModelError::missing(format!("tensor {name}{SCALES}"), format!("the scales of {name}{BLOCKS}"))
            })?;
            quantized(&name, &tensor, scales.bytes_of(Dtype::U8)?, &scales.shape, &mut tensors)?;
        } else if let Some((prefix, projection)) = tensor.name.split_once(".mlp.experts.") {
            let prefix = format!("{prefix}.mlp.experts");
            let projection = projection.to_owned();
            unquantized(&prefix, &projection, tensor, &mut tensors)?;
        } else {
            tensors.push(tensor.into_tensor()?);
        }
    }
    match scales.into_keys().min() {
        Some(name) => Err(ModelError::missing(
            format!("tensor {name}{BLOCKS}"),
            format!("the blocks of {name}{SCALES}"),
        )),
        None => Ok(tensors),
    }
}

/// The tensors in a fused one: their names and which rows they are.
fn parts(name: &str) -> Vec<(String, Stride)> {
    match name.strip_suffix("gate_up_proj") {
        Some(prefix) => {
            vec![
                (format!("{prefix}gate_proj.weight"), Stride::GATE),
                (format!("{prefix}up_proj.weight"), Stride::UP),
            ]
        }
        None => vec![(format!("{name}.weight"), Stride::ALL)],
    }
}

fn quantized(
    name: &str,
    blocks: &StoredValues,
    scales: Bytes,
    scales_shape: &[usize],
    tensors: &mut Vec<StoredTensor>,
) -> Result<(), ModelError> {
    let &[experts, rows, row_blocks, MXFP4_NIBBLES] = blocks.shape.as_slice() else {
        let what = format!("shape of tensor {name}{BLOCKS}");
        return Err(ModelError::malformed(
            what,
            format!("{:?}", blocks.shape),
            "[experts, rows, blocks, 16]",
        ));
    };
    if scales_shape != [experts, rows, row_blocks] {
        let (name, found) = (format!("{name}{SCALES}"), scales_shape.to_vec());
        return Err(ModelError::TensorShape { name, found, expected: vec![experts, rows, row_blocks] });
    }
    for (part, stride) in parts(name) {
        let rows = half(name, rows, stride)?;
        let layout = Layout::SplitMxfp4 {
            blocks: blocks.bytes_of(Dtype::U8)?,
            scales: scales.clone(),
            row_blocks,
            rows: stride,
        };
        let shape = vec![experts, rows, row_blocks * BLOCK];
        tensors.push(StoredTensor::with_layout(part, WeightFormat::Mxfp4, shape, layout)?);
    }
    Ok(())
}

fn unquantized(
    prefix: &str,
    projection: &str,
    tensor: StoredValues,
    tensors: &mut Vec<StoredTensor>,
) -> Result<(), ModelError> {
    let format = tensor.format()?;
    let value_bytes = tensor.dtype.bytes();
    match (projection, tensor.shape.as_slice()) {
        ("gate_up_proj_bias", &[experts, both]) => {
            for (name, stride) in [("gate_proj.bias", Stride::GATE), ("up_proj.bias", Stride::UP)] {
                let shape = vec![experts, half(&tensor.name, both, stride)?];
                let layout =
                    Layout::EveryOther { bytes: tensor.bytes.clone(), value_bytes, offset: stride.offset };
                tensors.push(StoredTensor::with_layout(format!("{prefix}.{name}"), format, shape, layout)?);
            }
        }
        ("down_proj_bias", _) => {
            let name = format!("{prefix}.down_proj.bias");
            tensors.push(StoredTensor::new(name, format, tensor.shape, tensor.bytes)?);
        }
        ("gate_up_proj" | "down_proj", &[experts, contracted, rows]) => {
            for (part, stride) in parts(&tensor.name) {
                let shape = vec![experts, half(&tensor.name, rows, stride)?, contracted];
                let layout = Layout::Transposed {
                    bytes: tensor.bytes.clone(),
                    stored_rows: contracted,
                    stored_columns: rows,
                    value_bytes,
                    columns: stride,
                };
                tensors.push(StoredTensor::with_layout(part, format, shape, layout)?);
            }
        }
        (_, shape) => {
            let what = format!("tensor {} of experts", tensor.name);
            let expected =
                "gate_up_proj and down_proj of three sides, their _bias of two, or _blocks and _scales";
            return Err(ModelError::malformed(what, format!("shape {shape:?}"), expected));
        }
    }
    Ok(())
}

/// Rows of one part of a tensor of `rows`.
fn half(name: &str, rows: usize, stride: Stride) -> Result<usize, ModelError> {
    if rows.is_multiple_of(stride.step) {
        Ok(rows / stride.step)
    } else {
        Err(ModelError::malformed(format!("rows of tensor {name}"), rows, "as many for gate as for up"))
    }
}
