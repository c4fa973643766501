//! From a tensor of the source to a part of a tensor of the result.
//!
//! What keeps its format keeps its bytes: whole rows, and columns as far as they are whole blocks of the format. What
//! is left is decoded to f32, selected and encoded again; where that quantises anew, the distance is measured.

use std::ops::Range;

use espalier_kernels::{WeightFormat, dequantize, quantize};
use espalier_model::{Checkpoint, StoredTensor, TensorBytes, TensorPlan};

use super::cut::{Cut, Side, total, window};
use super::requantization::Requantization;
use crate::error::PruningError;

/// The largest finite value of f16.
const LARGEST_F16: f32 = 65_504.0;

/// The bytes of `target`, of the indices `part` of its first side.
pub(super) fn copy(
    cut: &Cut,
    checkpoint: &Checkpoint,
    target: &TensorPlan,
    part: Range<usize>,
    requantization: &mut Requantization,
) -> Result<TensorBytes, PruningError> {
    let source = checkpoint.tensor(&cut.source)?;
    if part.start == 0 {
        cut.check(source, target)?;
    }
    let mut writer = Writer { source, format: target.format, out: Vec::new(), requantization };
    if cut.of_experts {
        let experts = cut.experts.get(part.clone()).unwrap_or_default();
        if cut.keeps_rows_and_columns() {
            return writer.whole(&super::cut::ranges(experts, 1));
        }
        let [_, rows, columns] = cut.sides(&source.shape);
        for (place, &expert) in part.zip(experts) {
            let expert = source.slice(expert..expert + 1)?;
            writer.matrix(&expert, &cut.rows.ranges(place, rows), &cut.columns.ranges(place, columns))?;
        }
        return Ok(writer.out.into());
    }
    let [_, rows, columns] = cut.sides(&source.shape);
    let kept = window(&cut.rows.ranges(0, rows), &part);
    if cut.columns == Side::Whole {
        return writer.whole(&kept);
    }
    let columns = cut.columns.ranges(0, columns);
    for range in kept {
        let part = source.slice(range.clone())?;
        writer.matrix(&part, &[Range { start: 0, end: range.len() }], &columns)?;
    }
    Ok(writer.out.into())
}

/// Values from elsewhere as the indices `part` of the first side of `target`.
pub(super) fn encode(
    values: &[f32],
    target: &TensorPlan,
    part: Range<usize>,
) -> Result<TensorBytes, PruningError> {
    let row: usize = target.shape.iter().skip(1).product();
    let expected = target.shape.iter().product::<usize>();
    if values.len() != expected {
        return Err(PruningError::TensorShape {
            name: target.name.clone(),
            found: vec![values.len()],
            expected: format!("the {expected} values of the shape {:?}", target.shape),
        });
    }
    let values = values.get(part.start * row..part.end * row).unwrap_or_default();
    check_range(&target.name, target.format, values)?;
    let mut bytes = Vec::new();
    quantize(target.format, values, &mut bytes)?;
    Ok(bytes.into())
}

/// A finite value must not become infinite by the change of format.
fn check_range(name: &str, format: WeightFormat, values: &[f32]) -> Result<(), PruningError> {
    let overflow = |value: &&f32| value.is_finite() && value.abs() > LARGEST_F16;
    match values.iter().find(overflow) {
        Some(&value) if format == WeightFormat::F16 => {
            Err(PruningError::Overflow { name: name.to_owned(), value })
        }
        _ => Ok(()),
    }
}

struct Writer<'a> {
    source: &'a StoredTensor,
    format: WeightFormat,
    out: Vec<u8>,
    requantization: &'a mut Requantization,
}

impl Writer<'_> {
    /// These ranges of the source's first side, whole.
    fn whole(mut self, ranges: &[Range<usize>]) -> Result<TensorBytes, PruningError> {
        let same = self.source.format == self.format;
        if let ([range], true) = (ranges, same) {
            return Ok(self.source.slice(range.clone())?.bytes()?.into());
        }
        for range in ranges {
            let part = self.source.slice(range.clone())?;
            if same {
                self.out.extend_from_slice(part.bytes()?.as_slice());
            } else {
                self.out.extend_from_slice(&part.bytes_in(self.format)?);
            }
        }
        Ok(self.out.into())
    }

    /// Rows and columns of `part`, which is a part of the source.
    fn matrix(
        &mut self,
        part: &StoredTensor,
        rows: &[Range<usize>],
        columns: &[Range<usize>],
    ) -> Result<(), PruningError> {
        let format = part.format;
        let width = part.shape.last().copied().unwrap_or(1);
        let row_bytes = format.row_bytes(width)?;
        let bytes = part.bytes()?;
        self.out.reserve(self.format.row_bytes(total(columns))? * total(rows));
        let block = format.block_values();
        let whole_blocks =
            columns.iter().all(|range| range.start.is_multiple_of(block) && range.end.is_multiple_of(block));
        let exact = format == self.format && whole_blocks;
        let mut values = vec![0.0_f32; if exact { 0 } else { width }];
        let mut kept = Vec::with_capacity(if exact { 0 } else { total(columns) });
        for row in rows.iter().cloned().flatten() {
            let row = bytes.as_slice().get(row * row_bytes..(row + 1) * row_bytes).unwrap_or_default();
            if exact {
                let in_bytes = |value: usize| value / block * format.block_bytes();
                for range in columns {
                    let range = in_bytes(range.start)..in_bytes(range.end);
                    self.out.extend_from_slice(row.get(range).unwrap_or_default());
                }
                continue;
            }
            dequantize(format, row, &mut values)?;
            kept.clear();
            for range in columns {
                kept.extend_from_slice(values.get(range.clone()).unwrap_or_default());
            }
            check_range(&self.source.name, self.format, &kept)?;
            let start = self.out.len();
            quantize(self.format, &kept, &mut self.out)?;
            if self.format.block_values() > 1 {
                let written = self.out.get(start..).unwrap_or_default();
                self.requantization.measure(&self.source.name, self.format, &kept, written)?;
            }
        }
        Ok(())
    }
}
