//! MXFP4 with nibbles and scales apart, as gpt-oss's safetensors files hold it, read where it lies.
//!
//! A block's 16 bytes hold values 2j (low half) and 2j + 1 (high half) in byte j. The kernels read ggml's form instead:
//! the scale, then 16 bytes with value j in the low half of byte j and value j + 16 in its high half. Joining moves bits
//! and changes none; it costs a few nanoseconds a block and spares a second copy of the weights.

use std::ops::Range;

use crate::error::check_length;
use crate::{Bytes, KernelError};

/// Values of a block.
const VALUES: usize = 32;
/// Bytes of a block's values.
const NIBBLES: usize = 16;
/// Bytes of a block in ggml's form.
const JOINED: usize = 17;

/// Rows of MXFP4 blocks, one out of every `step` stored rows.
#[derive(Clone, Debug)]
pub struct SplitMxfp4 {
    blocks: Bytes,
    scales: Bytes,
    row_blocks: usize,
    first: usize,
    step: usize,
}

impl SplitMxfp4 {
    /// The stored rows `first`, `first + step`, … of `columns` values each; every `step`-th row belongs to one matrix
    /// where two are stored row by row in turn, like gpt-oss's gate and up.
    ///
    /// # Errors
    /// Columns that are not whole blocks, lengths of nibbles and scales that do not go together or are not whole rows,
    /// a step of 0.
    pub fn new(
        blocks: Bytes,
        scales: Bytes,
        columns: usize,
        first: usize,
        step: usize,
    ) -> Result<Self, KernelError> {
        let row_blocks = columns / VALUES;
        if row_blocks == 0 || !columns.is_multiple_of(VALUES) || step == 0 {
            let reason = format!("{columns} columns in blocks of {VALUES}, every {step}th row");
            return Err(KernelError::Shape { what: "split MXFP4", reason });
        }
        check_length("the nibbles of MXFP4 blocks", blocks.len(), scales.len() * NIBBLES)?;
        check_length("the scales of whole MXFP4 rows", scales.len(), scales.len() / row_blocks * row_blocks)?;
        Ok(Self { blocks, scales, row_blocks, first, step })
    }

    /// How many rows the bytes hold.
    pub fn rows(&self) -> usize {
        (self.scales.len() / self.row_blocks).saturating_sub(self.first).div_ceil(self.step)
    }

    /// Values of a row.
    pub fn columns(&self) -> usize {
        self.row_blocks * VALUES
    }

    /// Tells the operating system that the pages are not needed for now.
    pub(crate) fn release(&self) {
        self.blocks.release();
        self.scales.release();
    }

    /// Appends blocks `range` of `row` in ggml's form to `out`; nothing if there is no such row or block.
    pub(crate) fn join(&self, row: usize, range: Range<usize>, out: &mut Vec<u8>) {
        let start = (self.first + row * self.step) * self.row_blocks;
        let (from, to) = (start + range.start, start + range.end);
        let blocks = self.blocks.as_slice().get(from * NIBBLES..to * NIBBLES).unwrap_or_default();
        join_mxfp4(blocks, self.scales.as_slice().get(from..to).unwrap_or_default(), out);
    }
}

/// Appends blocks in ggml's form to `out`, made of nibbles and scales; of unequal numbers the smaller decides.
pub fn join_mxfp4(blocks: &[u8], scales: &[u8], out: &mut Vec<u8>) {
    let (blocks, _) = blocks.as_chunks::<NIBBLES>();
    let count = blocks.len().min(scales.len());
    let start = out.len();
    out.resize(start + count * JOINED, 0);
    let (joined, _) = out[start..].as_chunks_mut::<JOINED>();
    for ((joined, block), scale) in joined.iter_mut().zip(blocks).zip(scales) {
        joined[0] = *scale;
        for pair in 0..NIBBLES / 2 {
            let (first, second) = (block[pair], block[pair + NIBBLES / 2]);
            joined[1 + 2 * pair] = first & 0x0f | second << 4;
            joined[2 + 2 * pair] = first >> 4 | second & 0xf0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Matrix, WeightFormat};

    #[test]
    fn values_of_interleaved_rows_are_those_of_their_nibbles() {
        let codes: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        let (stored_rows, row_blocks) = (6, 3);
        let blocks: Vec<u8> = (0..stored_rows * row_blocks * NIBBLES).map(|i| (i * 37 + 11) as u8).collect();
        let scales: Vec<u8> = (0..stored_rows * row_blocks).map(|i| 120 + (i % 9) as u8).collect();
        for (first, step) in [(0, 1), (0, 2), (1, 2)] {
            let (blocks_bytes, scales_bytes) =
                (Bytes::from_vec(blocks.clone()), Bytes::from_vec(scales.clone()));
            let split =
                SplitMxfp4::new(blocks_bytes, scales_bytes, row_blocks * VALUES, first, step).unwrap();
            let matrix = Matrix::from_split_mxfp4(split).unwrap();
            assert_eq!((matrix.rows(), matrix.columns()), (stored_rows / step, row_blocks * VALUES));
            assert_eq!(matrix.format(), WeightFormat::Mxfp4);
            let found = matrix.dequantize();
            for (row, found) in found.chunks_exact(matrix.columns()).enumerate() {
                let stored = first + row * step;
                for (column, found) in found.iter().enumerate() {
                    let block = stored * row_blocks + column / VALUES;
                    let nibble = blocks[block * NIBBLES + column % VALUES / 2] >> (column % 2 * 4) & 15;
                    let value = codes[usize::from(nibble & 7)] * if nibble & 8 == 0 { 1.0 } else { -1.0 };
                    assert_eq!(*found, value * f32::from(scales[block]).mul_add(1.0, -127.0).exp2());
                }
            }
        }
    }

    #[test]
    fn lengths_must_go_together() {
        let bytes = |length| Bytes::from_vec(vec![0; length]);
        assert!(SplitMxfp4::new(bytes(64), bytes(4), 64, 0, 1).is_ok());
        for (blocks, scales, columns, step) in
            [(64, 3, 64, 1), (48, 3, 64, 1), (64, 4, 40, 1), (64, 4, 64, 0)]
        {
            assert!(SplitMxfp4::new(bytes(blocks), bytes(scales), columns, 0, step).is_err());
        }
    }
}
