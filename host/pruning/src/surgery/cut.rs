//! What a plan does to one tensor: which rows and which columns stay.

use std::ops::Range;

use espalier_kernels::{WeightFormat, quantize};
use espalier_model::{Checkpoint, StoredTensor, TensorPlan};

use crate::error::PruningError;
use crate::plan::Plan;

/// The largest finite value of f16.
const LARGEST_F16: f32 = 65_504.0;

/// The rows and columns of one tensor that stay; absent where all do. A vector is cut as one row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cut {
    rows: Option<Vec<Range<usize>>>,
    columns: Option<Vec<Range<usize>>>,
}

impl Cut {
    /// The cut that `plan` makes in the tensor of this HF name.
    pub(super) fn of(name: &str, plan: &Plan, head_dim: usize) -> Self {
        let Some((layer, part)) = split_layer(name) else { return Self::default() };
        let Some(layer) = plan.layers.get(layer) else { return Self::default() };
        let heads = || ranges(&layer.heads.kept(), head_dim);
        let channels = || ranges(&layer.ffn_channels.kept(), 1);
        match part {
            "self_attn.q_proj.weight" => Self { rows: Some(heads()), columns: None },
            "self_attn.q_proj.bias" => Self { rows: None, columns: Some(heads()) },
            "self_attn.o_proj.weight" => Self { rows: None, columns: Some(heads()) },
            "mlp.gate_proj.weight" | "mlp.up_proj.weight" => Self { rows: Some(channels()), columns: None },
            "mlp.gate_proj.bias" | "mlp.up_proj.bias" => Self { rows: None, columns: Some(channels()) },
            "mlp.down_proj.weight" => Self { rows: None, columns: Some(channels()) },
            _ => Self::default(),
        }
    }

    /// The bytes of the cut tensor in the format and shape of `target`. A tensor that is not cut and has the target's
    /// format already is copied byte for byte.
    pub(super) fn apply(
        &self,
        checkpoint: &Checkpoint,
        target: &TensorPlan,
    ) -> Result<Vec<u8>, PruningError> {
        let source = checkpoint.tensor(&target.name)?;
        if *self == Self::default() {
            return Ok(source.bytes_in(target.format)?);
        }
        let matrix = source.matrix()?;
        let (rows, columns) = (matrix.rows(), matrix.columns());
        let whole = |length: usize| Vec::from([std::ops::Range { start: 0, end: length }]);
        let kept_rows = self.rows.clone().unwrap_or_else(|| whole(rows));
        let kept_columns = self.columns.clone().unwrap_or_else(|| whole(columns));
        check(source, target, &kept_rows, &kept_columns)?;

        let mut row = vec![0.0_f32; columns];
        let mut kept = Vec::with_capacity(total(&kept_columns));
        let mut bytes =
            Vec::with_capacity(target.format.row_bytes(total(&kept_columns))? * total(&kept_rows));
        for index in kept_rows.into_iter().flatten() {
            matrix.dequantize_row(index, &mut row)?;
            kept.clear();
            for range in &kept_columns {
                kept.extend_from_slice(row.get(range.clone()).unwrap_or_default());
            }
            check_range(source, target.format, &kept)?;
            quantize(target.format, &kept, &mut bytes)?;
        }
        Ok(bytes)
    }
}

/// The cut stays inside the tensor, and what stays has the target's shape.
fn check(
    source: &StoredTensor,
    target: &TensorPlan,
    kept_rows: &[Range<usize>],
    kept_columns: &[Range<usize>],
) -> Result<(), PruningError> {
    let (rows, columns) = source.rows_and_columns();
    let inside = |ranges: &[Range<usize>], length: usize| ranges.iter().all(|range| range.end <= length);
    let expected: usize = target.shape.iter().product();
    if inside(kept_rows, rows)
        && inside(kept_columns, columns)
        && total(kept_rows) * total(kept_columns) == expected
    {
        return Ok(());
    }
    Err(PruningError::TensorShape {
        name: source.name.clone(),
        found: source.shape.clone(),
        expected: format!("a shape that becomes {:?} when the plan's units are cut", target.shape),
    })
}

/// A finite value must not become infinite by the change of format.
fn check_range(source: &StoredTensor, format: WeightFormat, values: &[f32]) -> Result<(), PruningError> {
    let overflow = |value: &&f32| value.is_finite() && value.abs() > LARGEST_F16;
    match values.iter().find(overflow) {
        Some(&value) if format == WeightFormat::F16 => {
            Err(PruningError::Overflow { name: source.name.clone(), value })
        }
        _ => Ok(()),
    }
}

/// `model.layers.3.mlp.up_proj.weight` is part `mlp.up_proj.weight` of layer 3.
fn split_layer(name: &str) -> Option<(usize, &str)> {
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    Some((layer.parse().ok()?, part))
}

/// The index ranges of the kept units, each `width` long, neighbours joined.
fn ranges(kept: &[usize], width: usize) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for &unit in kept {
        let next = unit * width..(unit + 1) * width;
        match ranges.last_mut() {
            Some(last) if last.end == next.start => last.end = next.end,
            _ => ranges.push(next),
        }
    }
    ranges
}

fn total(ranges: &[Range<usize>]) -> usize {
    ranges.iter().map(ExactSizeIterator::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_join_into_one_range() {
        assert_eq!(ranges(&[0, 1, 3], 4), vec![0..8, 12..16]);
        assert_eq!(total(&ranges(&[0, 1, 3], 4)), 12);
        assert!(ranges(&[], 4).is_empty());
    }

    #[test]
    fn only_tensors_inside_a_layer_have_one() {
        assert_eq!(split_layer("model.layers.12.mlp.up_proj.weight"), Some((12, "mlp.up_proj.weight")));
        assert_eq!(split_layer("model.norm.weight"), None);
        assert_eq!(split_layer("model.layers.x.mlp.up_proj.weight"), None);
    }
}
