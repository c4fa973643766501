//! How a file's bytes lie, and how to put them into the order of HF's rows and ggml's blocks.
//!
//! All functions here move bytes and change none: a tensor that goes from one file format into another and back is
//! the same as before.

use std::ops::Range;

use espalier_kernels::{Bytes, join_mxfp4};

/// Values, scale byte and all of an MXFP4 block in ggml's form: the scale, then 16 bytes of which byte j holds value
/// j in its low half and value j + 16 in its high half.
pub(crate) const MXFP4_BLOCK: usize = 17;
/// The same without the scale, as HF stores it: byte j holds values 2j (low half) and 2j + 1.
pub(crate) const MXFP4_NIBBLES: usize = 16;

/// Where a tensor's bytes come from.
#[derive(Clone, Debug)]
pub(crate) enum Layout {
    /// As they are.
    Plain(Bytes),
    /// Llama's q and k as llama.cpp's converter leaves them for its pairwise rotation: in each head of d rows, HF's
    /// row `j + half * d/2` is stored as row `2 * j + half`.
    InterleavedRows {
        /// All rows.
        bytes: Bytes,
        /// Heads in the matrix.
        heads: usize,
    },
    /// Values `offset`, `offset + 2`, …: one half of gpt-oss's fused gate and up biases.
    EveryOther {
        /// Both halves.
        bytes: Bytes,
        /// Bytes of one value.
        value_bytes: usize,
        /// 0 for gate, 1 for up.
        offset: usize,
    },
    /// MXFP4 as HF stores it, nibbles and scales apart.
    SplitMxfp4 {
        /// 16 bytes for each block.
        blocks: Bytes,
        /// One byte for each block.
        scales: Bytes,
        /// Blocks in a row.
        row_blocks: usize,
        /// Which rows: `offset`, `offset + step`, ….
        rows: Stride,
    },
    /// Experts' matrices stored with the contracted side first, as HF's unquantised ones are: `[experts, stored_rows,
    /// stored_columns]`.
    Transposed {
        /// All experts.
        bytes: Bytes,
        /// Contracted side.
        stored_rows: usize,
        /// The other side.
        stored_columns: usize,
        /// Bytes of one value.
        value_bytes: usize,
        /// Which stored columns become rows.
        columns: Stride,
    },
}

/// `offset`, `offset + step`, `offset + 2 * step`, …
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stride {
    pub(crate) step: usize,
    pub(crate) offset: usize,
}

impl Stride {
    pub(crate) const ALL: Self = Self { step: 1, offset: 0 };
    /// Gate's rows in gpt-oss's fused gate and up.
    pub(crate) const GATE: Self = Self { step: 2, offset: 0 };
    /// Up's.
    pub(crate) const UP: Self = Self { step: 2, offset: 1 };
}

impl Layout {
    /// The bytes in order; only [`Layout::Plain`] needs no copy. `rows` are those of the first side, which a bias
    /// has too. `None` if the sizes don't fit together, which readers have checked.
    pub(crate) fn bytes(&self, rows: usize) -> Option<Bytes> {
        let gathered = match self {
            Self::Plain(bytes) => return Some(bytes.clone()),
            Self::InterleavedRows { bytes, heads } => {
                deinterleave_rows(bytes.as_slice(), rows, *heads, 0..rows)?
            }
            Self::EveryOther { bytes, value_bytes, offset } => bytes
                .as_slice()
                .chunks_exact(*value_bytes)
                .skip(*offset)
                .step_by(2)
                .flatten()
                .copied()
                .collect(),
            Self::SplitMxfp4 { blocks, scales, row_blocks, rows } => {
                join_rows(blocks.as_slice(), scales.as_slice(), *row_blocks, *rows)?
            }
            Self::Transposed { bytes, stored_rows, stored_columns, value_bytes, columns } => {
                transpose(bytes.as_slice(), *stored_rows, *stored_columns, *value_bytes, *columns)?
            }
        };
        Some(Bytes::from_vec(gathered))
    }

    /// The part with the indices `wanted` of the first side, which has `rows` of them. Memory that is mapped stays
    /// so, but for interleaved rows, which are gathered. `None` if the sizes don't fit together.
    pub(crate) fn slice(&self, rows: usize, wanted: Range<usize>) -> Option<Self> {
        let cut = |bytes: &Bytes| {
            let row = bytes.len().checked_div(rows).filter(|row| row * rows == bytes.len())?;
            bytes.slice(wanted.start.checked_mul(row)?..wanted.end.checked_mul(row)?).ok()
        };
        Some(match self {
            Self::Plain(bytes) => Self::Plain(cut(bytes)?),
            Self::InterleavedRows { bytes, heads } => {
                let gathered = deinterleave_rows(bytes.as_slice(), rows, *heads, wanted)?;
                Self::Plain(Bytes::from_vec(gathered))
            }
            Self::EveryOther { bytes, value_bytes, offset } => {
                Self::EveryOther { bytes: cut(bytes)?, value_bytes: *value_bytes, offset: *offset }
            }
            Self::SplitMxfp4 { blocks, scales, row_blocks, rows } => Self::SplitMxfp4 {
                blocks: cut(blocks)?,
                scales: cut(scales)?,
                row_blocks: *row_blocks,
                rows: *rows,
            },
            Self::Transposed { bytes, stored_rows, stored_columns, value_bytes, columns } => {
                Self::Transposed {
                    bytes: cut(bytes)?,
                    stored_rows: *stored_rows,
                    stored_columns: *stored_columns,
                    value_bytes: *value_bytes,
                    columns: *columns,
                }
            }
        })
    }

    /// Tells the operating system that the stored bytes are not needed for now.
    pub(crate) fn release(&self) {
        match self {
            Self::Plain(bytes)
            | Self::InterleavedRows { bytes, .. }
            | Self::EveryOther { bytes, .. }
            | Self::Transposed { bytes, .. } => bytes.release(),
            Self::SplitMxfp4 { blocks, scales, .. } => {
                blocks.release();
                scales.release();
            }
        }
    }
}

/// HF's rows as llama.cpp's converter orders them.
pub(crate) fn interleave_rows(in_order: &[u8], rows: usize, heads: usize) -> Option<Vec<u8>> {
    let (head_rows, row_bytes) = head_rows(in_order, rows, heads)?;
    let mut interleaved = Vec::with_capacity(in_order.len());
    for head in in_order.chunks_exact(head_rows * row_bytes) {
        let (first, second) = head.split_at(head.len() / 2);
        for (even, odd) in first.chunks_exact(row_bytes).zip(second.chunks_exact(row_bytes)) {
            interleaved.extend_from_slice(even);
            interleaved.extend_from_slice(odd);
        }
    }
    Some(interleaved)
}

/// The inverse, of HF's rows `wanted`: in each head, even stored rows come first, then odd ones.
fn deinterleave_rows(stored: &[u8], rows: usize, heads: usize, wanted: Range<usize>) -> Option<Vec<u8>> {
    let (head_rows, row_bytes) = head_rows(stored, rows, heads)?;
    let half = head_rows / 2;
    let mut gathered = Vec::with_capacity(wanted.len() * row_bytes);
    for row in wanted {
        let (head, inside) = (row / head_rows, row % head_rows);
        let place = head * head_rows + 2 * (inside % half) + inside / half;
        gathered.extend_from_slice(stored.get(place * row_bytes..(place + 1) * row_bytes)?);
    }
    Some(gathered)
}

/// Rows of one head and bytes of one row; `None` if the rows aren't `heads` equal heads with two halves.
fn head_rows(bytes: &[u8], rows: usize, heads: usize) -> Option<(usize, usize)> {
    let head_rows = rows.checked_div(heads)?;
    let row_bytes = bytes.len().checked_div(rows)?;
    let whole = head_rows > 0 && head_rows.is_multiple_of(2) && head_rows * heads == rows && row_bytes > 0;
    whole.then_some((head_rows, row_bytes))
}

/// HF's nibbles and scales as ggml's blocks, of the rows that `rows` picks.
fn join_rows(blocks: &[u8], scales: &[u8], row_blocks: usize, rows: Stride) -> Option<Vec<u8>> {
    if row_blocks == 0 || blocks.len() != scales.len() * MXFP4_NIBBLES {
        return None;
    }
    let mut joined = Vec::with_capacity((scales.len() * MXFP4_BLOCK).div_ceil(rows.step));
    let stored_rows = blocks.chunks_exact(row_blocks * MXFP4_NIBBLES).zip(scales.chunks_exact(row_blocks));
    for (blocks, scales) in stored_rows.skip(rows.offset).step_by(rows.step) {
        join_mxfp4(blocks, scales, &mut joined);
    }
    Some(joined)
}

/// ggml's blocks as HF's nibbles and scales.
pub(crate) fn split_mxfp4(joined: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (joined, _) = joined.as_chunks::<MXFP4_BLOCK>();
    let mut scales = Vec::with_capacity(joined.len());
    let mut blocks = Vec::with_capacity(joined.len() * MXFP4_NIBBLES);
    for [scale, nibbles @ ..] in joined {
        scales.push(*scale);
        let (pairs, _) = nibbles.as_chunks::<2>();
        blocks.extend(pairs.iter().map(|[even, odd]| even & 0x0f | odd << 4));
        blocks.extend(pairs.iter().map(|[even, odd]| even >> 4 | odd & 0xf0));
    }
    (blocks, scales)
}

/// Swaps the two sides of each expert's matrix, keeping the columns that `columns` picks.
pub(crate) fn transpose(
    stored: &[u8],
    stored_rows: usize,
    stored_columns: usize,
    value_bytes: usize,
    columns: Stride,
) -> Option<Vec<u8>> {
    match value_bytes {
        2 => transpose_values::<2>(stored, stored_rows, stored_columns, columns),
        4 => transpose_values::<4>(stored, stored_rows, stored_columns, columns),
        _ => None,
    }
}

fn transpose_values<const N: usize>(
    stored: &[u8],
    stored_rows: usize,
    stored_columns: usize,
    columns: Stride,
) -> Option<Vec<u8>> {
    /// Rows whose cache lines fit together into the first-level cache.
    const TILE: usize = 64;
    let expert_values = stored_rows.checked_mul(stored_columns).filter(|&values| values > 0)?;
    let (values, rest) = stored.as_chunks::<N>();
    if !rest.is_empty() || !values.len().is_multiple_of(expert_values) {
        return None;
    }
    let kept = stored_columns.saturating_sub(columns.offset).div_ceil(columns.step);
    let mut out = vec![[0; N]; values.len() / expert_values * kept * stored_rows];
    let experts = values.chunks_exact(expert_values).zip(out.chunks_exact_mut((kept * stored_rows).max(1)));
    for (expert, out) in experts {
        for (tile, rows) in expert.chunks(TILE * stored_columns).enumerate() {
            for (column, line) in out.chunks_exact_mut(stored_rows).enumerate() {
                let from = rows
                    .chunks_exact(stored_columns)
                    .filter_map(|row| row.get(columns.offset + column * columns.step));
                let to = line.get_mut(tile * TILE..)?;
                for (to, from) in to.iter_mut().zip(from) {
                    *to = *from;
                }
            }
        }
    }
    Some(out.into_flattened())
}

/// Two matrices' or vectors' rows in turn: a, b, a, b, …
pub(crate) fn alternate(a: &[u8], b: &[u8], row_bytes: usize) -> Vec<u8> {
    let row_bytes = row_bytes.max(1);
    let mut out = Vec::with_capacity(a.len() + b.len());
    for (a, b) in a.chunks_exact(row_bytes).zip(b.chunks_exact(row_bytes)) {
        out.extend_from_slice(a);
        out.extend_from_slice(b);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaving_is_llama_cpps_permutation_and_comes_back() {
        // Two heads of four rows of two bytes: HF's halves [0 1 | 2 3] are stored as pairs 0 2, 1 3.
        let in_order: Vec<u8> = (0..8).flat_map(|row| [row, row + 100]).collect();
        let interleaved = interleave_rows(&in_order, 8, 2).unwrap();
        let rows: Vec<u8> = interleaved.chunks(2).map(|row| row[0]).collect();
        assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
        assert_eq!(deinterleave_rows(&interleaved, 8, 2, 0..8).unwrap(), in_order);
        assert_eq!(interleave_rows(&in_order, 8, 3), None);
        assert_eq!(deinterleave_rows(&in_order, 8, 0, 0..8), None);
    }

    #[test]
    fn mxfp4_blocks_change_order_and_come_back() {
        // HF: value i of the first block is i % 16, so byte j holds 2j and 2j + 1.
        let value = |index: usize| (index % 16) as u8;
        let first: Vec<u8> = (0..16).map(|byte| value(2 * byte) | value(2 * byte + 1) << 4).collect();
        let second: Vec<u8> = (0..16).map(|byte| (byte * 17) ^ 0x5a).collect();
        let blocks = [first, second].concat();
        let joined = join_rows(&blocks, &[120, 130], 1, Stride::ALL).unwrap();
        assert_eq!((joined[0], joined[17]), (120, 130));
        for byte in 0..16 {
            assert_eq!((joined[1 + byte] & 15, joined[1 + byte] >> 4), (value(byte), value(byte + 16)));
        }
        assert_eq!(split_mxfp4(&joined), (blocks.clone(), vec![120, 130]));
        assert_eq!(join_rows(&blocks, &[120, 130], 1, Stride::UP).unwrap(), joined[17..]);
        assert_eq!(join_rows(&blocks, &[120], 1, Stride::ALL), None);
    }

    #[test]
    fn transposing_picks_columns_and_comes_back() {
        let (experts, rows, columns) = (2, 70, 6);
        let stored: Vec<u8> =
            (0..experts * rows * columns).flat_map(|value| (value as u16).to_le_bytes()).collect();
        let up = transpose(&stored, rows, columns, 2, Stride::UP).unwrap();
        let value = |expert: usize, row: usize, column: usize| {
            (expert * rows * columns + row * columns + column) as u16
        };
        for (place, found) in up.chunks(2).map(|two| u16::from_le_bytes([two[0], two[1]])).enumerate() {
            let (expert, column, row) = (place / (3 * rows), place / rows % 3, place % rows);
            assert_eq!(found, value(expert, row, 2 * column + 1));
        }
        let whole = transpose(&stored, rows, columns, 2, Stride::ALL).unwrap();
        assert_eq!(transpose(&whole, columns, rows, 2, Stride::ALL).unwrap(), stored);
        assert_eq!(transpose(&stored, 71, columns, 2, Stride::ALL), None);
    }
}
