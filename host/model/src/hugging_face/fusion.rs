//! Which tensors of a model make which tensors of an HF file: one makes one, but for gpt-oss's experts, whose gate
//! and up are fused and whose MXFP4 is stored as blocks and scales.

use std::collections::HashMap;
use std::ops::Range;

use espalier_kernels::WeightFormat;

use crate::error::ModelError;
use crate::layout::{Stride, alternate, split_mxfp4, transpose};
use crate::safetensors::{Dtype, Planned};
use crate::tensor_bytes::TensorBytes;
use crate::tensor_plan::TensorPlan;

/// Values of an MXFP4 block, and bytes of its two parts.
const BLOCK: usize = 32;
const BLOCK_BYTES: usize = 16;

/// Tensors that are produced together and written one after the other.
pub(super) struct Fusion<'a> {
    /// What is asked for.
    pub(super) sources: Vec<&'a TensorPlan>,
    /// What goes into the file.
    pub(super) written: Vec<Planned>,
    form: Form,
}

/// How sources become what is written. The experts' forms go expert by expert, so that beside the sources there is
/// never more than one of them in memory.
#[derive(Clone, Copy)]
enum Form {
    Same,
    /// Rows in turn, each of this many bytes.
    Alternate(usize),
    /// MXFP4 apart, after taking rows of two sources in turn.
    SplitMxfp4 {
        row_bytes: usize,
        /// Rows of an expert in each source.
        rows: usize,
    },
    /// Contracted side first, after taking rows of two sources in turn.
    Transposed {
        /// Rows of an expert in each source.
        rows: usize,
        columns: usize,
        value_bytes: usize,
    },
}

impl Fusion<'_> {
    /// Bytes in the file.
    pub(super) fn bytes(&self) -> u64 {
        self.written.iter().map(Planned::bytes).sum()
    }

    /// Ranges of the sources' first side that together take at most about `part_bytes`, at least one index each.
    pub(super) fn parts(&self, part_bytes: u64) -> impl Iterator<Item = Range<usize>> + use<> {
        let first = self.sources.first().and_then(|plan| plan.shape.first()).copied().unwrap_or(1);
        let index_bytes = (self.bytes() / first.max(1) as u64).max(1);
        let step = usize::try_from(part_bytes / index_bytes).unwrap_or(usize::MAX).clamp(1, first.max(1));
        (0..first).step_by(step).map(move |start| start..(start + step).min(first))
    }

    /// From the same part of each source: hands the bytes of the first tensor in `written` to `write`, and appends
    /// those of the second, if there is one, to `second`.
    pub(super) fn fuse(
        &self,
        produced: &[TensorBytes],
        write: &mut dyn FnMut(&[u8]) -> Result<(), ModelError>,
        second: &mut Vec<u8>,
    ) -> Result<(), ModelError> {
        match self.form {
            Form::Same => produced.iter().try_for_each(|bytes| write(bytes)),
            Form::Alternate(row_bytes) => {
                let sources: Vec<&[u8]> = produced.iter().map(|bytes| &**bytes).collect();
                write(&in_turn(&sources, row_bytes))
            }
            Form::SplitMxfp4 { row_bytes, rows } => {
                for expert in experts_of(produced, rows * row_bytes) {
                    let (blocks, scales) = split_mxfp4(&in_turn(&expert, row_bytes));
                    write(&blocks)?;
                    second.extend(scales);
                }
                Ok(())
            }
            Form::Transposed { rows, columns, value_bytes } => {
                let row_bytes = columns * value_bytes;
                for expert in experts_of(produced, rows * row_bytes) {
                    let joined = in_turn(&expert, row_bytes);
                    let stored_rows = rows * produced.len();
                    let turned = transpose(&joined, stored_rows, columns, value_bytes, Stride::ALL);
                    let turned = turned.ok_or_else(|| {
                        let name = self.written.first().map_or("experts", |tensor| tensor.name.as_str());
                        let expected = format!("{stored_rows} rows of {columns} values");
                        let found = format!("{} bytes", joined.len());
                        ModelError::argument(format!("an expert of tensor {name}"), found, expected)
                    })?;
                    write(&turned)?;
                }
                Ok(())
            }
        }
    }
}

/// Rows of the sources in turn.
fn in_turn(sources: &[&[u8]], row_bytes: usize) -> Vec<u8> {
    match sources {
        [gate, up] => alternate(gate, up, row_bytes),
        [one] => one.to_vec(),
        _ => Vec::new(),
    }
}

/// For each expert its bytes in each source.
fn experts_of(sources: &[TensorBytes], expert_bytes: usize) -> impl Iterator<Item = Vec<&[u8]>> {
    let expert_bytes = expert_bytes.max(1);
    let count = sources.first().map_or(0, |source| source.len() / expert_bytes);
    (0..count).map(move |expert| {
        let range = expert * expert_bytes..(expert + 1) * expert_bytes;
        sources.iter().map(|source| source.get(range.clone()).unwrap_or_default()).collect()
    })
}

/// The contents of the files for a plan that the spec agrees with.
pub(super) fn fusions(tensors: &[TensorPlan]) -> Result<Vec<Fusion<'_>>, ModelError> {
    let by_name: HashMap<&str, &TensorPlan> = tensors.iter().map(|plan| (plan.name.as_str(), plan)).collect();
    let mut fusions = Vec::with_capacity(tensors.len());
    for plan in tensors {
        let Some((prefix, inside)) = plan.name.split_once(".mlp.experts.") else {
            let written = planned(plan.name.clone(), dtype(plan)?, plan.shape.clone());
            fusions.push(Fusion { sources: vec![plan], written: vec![written], form: Form::Same });
            continue;
        };
        let Some((projection, kind)) = inside.split_once("_proj.") else { continue };
        let (sources, projection) = match projection {
            // Written with its gate.
            "up" => continue,
            "gate" => {
                let name = format!("{prefix}.mlp.experts.up_proj.{kind}");
                let up = by_name
                    .get(name.as_str())
                    .filter(|up| up.format == plan.format && up.shape == plan.shape);
                let Some(up) = up else {
                    let expected = format!("{name} in the same format, which HF stores with it");
                    return Err(ModelError::argument("planned tensor", &plan.name, expected));
                };
                (vec![plan, *up], "gate_up_proj")
            }
            _ => (vec![plan], "down_proj"),
        };
        fusions.push(experts(sources, format!("{prefix}.mlp.experts.{projection}"), kind == "bias")?);
    }
    Ok(fusions)
}

fn experts(sources: Vec<&TensorPlan>, name: String, bias: bool) -> Result<Fusion<'_>, ModelError> {
    let parts = sources.len();
    let Some(&plan) = sources.first() else {
        return Err(ModelError::argument("planned tensor", name, "a source"));
    };
    let (written, form) = match plan.shape.as_slice() {
        &[experts, rows] if bias => {
            let dtype = dtype(plan)?;
            let written = planned(format!("{name}_bias"), dtype, vec![experts, rows * parts]);
            (vec![written], Form::Alternate(dtype.bytes()))
        }
        &[experts, rows, columns] if plan.format == WeightFormat::Mxfp4 => {
            let (all_rows, blocks) = (rows * parts, columns / BLOCK);
            let written = vec![
                planned(format!("{name}_blocks"), Dtype::U8, vec![experts, all_rows, blocks, BLOCK_BYTES]),
                planned(format!("{name}_scales"), Dtype::U8, vec![experts, all_rows, blocks]),
            ];
            (written, Form::SplitMxfp4 { row_bytes: plan.format.row_bytes(columns)?, rows })
        }
        &[experts, rows, columns] => {
            let dtype = dtype(plan)?;
            let written = vec![planned(name, dtype, vec![experts, columns, rows * parts])];
            (written, Form::Transposed { rows, columns, value_bytes: dtype.bytes() })
        }
        shape => {
            return Err(ModelError::argument(
                "planned tensor",
                &plan.name,
                format!("another shape than {shape:?}"),
            ));
        }
    };
    Ok(Fusion { sources, written, form })
}

fn planned(name: String, dtype: Dtype, shape: Vec<usize>) -> Planned {
    Planned { name, dtype, shape }
}

/// The type of a whole tensor of this format, if a file can hold one.
pub(crate) const fn dtype_of(format: WeightFormat) -> Option<Dtype> {
    match format {
        WeightFormat::F32 => Some(Dtype::F32),
        WeightFormat::F16 => Some(Dtype::F16),
        WeightFormat::Bf16 => Some(Dtype::Bf16),
        _ => None,
    }
}

fn dtype(plan: &TensorPlan) -> Result<Dtype, ModelError> {
    dtype_of(plan.format).ok_or_else(|| {
        let what = format!("format of tensor {} in an HF directory:", plan.name);
        let supported = "f32, f16, bf16, and mxfp4 for the experts of gpt-oss";
        ModelError::unsupported(what, plan.format.name(), supported)
    })
}
