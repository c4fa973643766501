//! A weight matrix: rows of blocks in one of the weight formats.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::cpu::PackedMatrix;
use crate::dequantize::dequantize;
use crate::error::check_length;
use crate::{Bytes, KernelError, SplitMxfp4, WeightFormat};

/// `rows × columns` values, row-major, each row a whole number of blocks. The last dimension is the contraction.
#[derive(Clone, Debug)]
pub struct Matrix {
    format: WeightFormat,
    rows: usize,
    columns: usize,
    row_bytes: usize,
    store: RowStore,
    /// The rearranged copy for fast products, made when the first one needs it and shared by clones.
    packed: Arc<OnceLock<Option<PackedMatrix>>>,
}

/// How the rows lie in memory.
#[derive(Clone, Debug)]
enum RowStore {
    /// One after the other, blocks in ggml's form.
    Joined(Bytes),
    /// As gpt-oss's files hold MXFP4.
    Split(SplitMxfp4),
}

/// Blocks of consecutive rows: row `i` has `length` bytes at `i · stride`.
#[derive(Copy, Clone)]
pub(crate) struct RowBlocks<'a> {
    bytes: &'a [u8],
    stride: usize,
    length: usize,
}

impl<'a> RowBlocks<'a> {
    /// The blocks of row `index`, counted from the first one asked for; empty where there is none.
    #[inline]
    pub(crate) fn row(self, index: usize) -> &'a [u8] {
        self.bytes.get(index * self.stride..index * self.stride + self.length).unwrap_or_default()
    }

    /// Everything from the first row on.
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.bytes
    }
}

impl Matrix {
    /// Views `bytes` as a matrix.
    ///
    /// # Errors
    /// When a row does not divide into blocks or the length of `bytes` is not that of the matrix.
    pub fn new(format: WeightFormat, rows: usize, columns: usize, bytes: Bytes) -> Result<Self, KernelError> {
        let row_bytes = format.row_bytes(columns)?;
        let expected = row_bytes.checked_mul(rows).ok_or_else(|| KernelError::Shape {
            what: "matrix",
            reason: format!("{rows} × {columns} values overflow the address space"),
        })?;
        check_length("the bytes of a matrix", bytes.len(), expected)?;
        Ok(Self { format, rows, columns, row_bytes, store: RowStore::Joined(bytes), packed: Arc::default() })
    }

    /// Views MXFP4 whose nibbles and scales lie apart as a matrix of all its rows.
    ///
    /// # Errors
    /// When the sizes overflow the address space.
    pub fn from_split_mxfp4(split: SplitMxfp4) -> Result<Self, KernelError> {
        let (format, rows, columns) = (WeightFormat::Mxfp4, split.rows(), split.columns());
        let row_bytes = format.row_bytes(columns)?;
        Ok(Self { format, rows, columns, row_bytes, store: RowStore::Split(split), packed: Arc::default() })
    }

    /// An `F32` matrix of `values`, row-major.
    ///
    /// # Errors
    /// When there are not `rows · columns` values.
    pub fn from_f32(rows: usize, columns: usize, values: &[f32]) -> Result<Self, KernelError> {
        Self::new(WeightFormat::F32, rows, columns, Bytes::from_f32(values))
    }

    /// The storage format.
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    /// Number of rows (outputs).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (inputs).
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes of all rows.
    pub fn byte_len(&self) -> usize {
        self.rows * self.row_bytes
    }

    /// Bytes of the rearranged copy that fast products read; 0 while there is none.
    pub fn packed_bytes(&self) -> usize {
        self.packed.get().and_then(Option::as_ref).map_or(0, PackedMatrix::len)
    }

    /// The rearranged copy, which `pack` makes the first time if it can.
    pub(crate) fn packed(&self, pack: impl FnOnce(&Self) -> Option<PackedMatrix>) -> Option<&PackedMatrix> {
        self.packed.get_or_init(|| pack(self)).as_ref()
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// The blocks of `columns`, which begin and end on block borders, of `count` rows from `first` on. Rows that are not
    /// stored in ggml's form are joined in `buffer`. The caller has checked that there are so many.
    pub(crate) fn row_blocks<'a>(
        &'a self,
        first: usize,
        count: usize,
        columns: Range<usize>,
        buffer: &'a mut Vec<u8>,
    ) -> RowBlocks<'a> {
        let block = |column: usize| column / self.format.block_values();
        let (start, end) = (block(columns.start), block(columns.end));
        let length = (end - start) * self.format.block_bytes();
        match &self.store {
            RowStore::Joined(bytes) => {
                let start = first * self.row_bytes + start * self.format.block_bytes();
                let bytes = bytes.as_slice().get(start..).unwrap_or_default();
                RowBlocks { bytes, stride: self.row_bytes, length }
            }
            RowStore::Split(split) => {
                buffer.clear();
                (first..first + count).for_each(|row| split.join(row, start..end, buffer));
                RowBlocks { bytes: buffer, stride: length, length }
            }
        }
    }

    /// Tells the operating system that the pages of a mapped file that hold the rows are not needed for now. Reading
    /// them again costs a page fault, no more.
    pub(crate) fn release(&self) {
        match &self.store {
            RowStore::Joined(bytes) => bytes.release(),
            RowStore::Split(split) => split.release(),
        }
    }

    /// Writes the values of row `index` to `out`, which holds `columns` values.
    ///
    /// # Errors
    /// When there is no such row or `out` has another length.
    pub fn dequantize_row(&self, index: usize, out: &mut [f32]) -> Result<(), KernelError> {
        if index >= self.rows {
            return Err(KernelError::OutOfRange { what: "a matrix row", found: index, limit: self.rows });
        }
        let mut buffer = Vec::new();
        dequantize(self.format, self.row_blocks(index, 1, 0..self.columns, &mut buffer).row(0), out)
    }

    /// All values, row-major.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.columns];
        for (row, out) in values.chunks_exact_mut(self.columns.max(1)).enumerate() {
            // The constructor checked the only thing that can be wrong here: the length.
            let result = self.dequantize_row(row, out);
            debug_assert!(result.is_ok());
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_rows_are_checked() {
        let matrix = Matrix::from_f32(2, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let mut row = [0.0; 3];
        matrix.dequantize_row(1, &mut row).unwrap();
        assert_eq!(row, [4.0, 5.0, 6.0]);
        assert_eq!(matrix.dequantize(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert!(matrix.dequantize_row(2, &mut row).is_err());
        assert!(matrix.dequantize_row(0, &mut row[..2]).is_err());
        assert!(Matrix::from_f32(2, 3, &[1.0]).is_err());
        assert!(Matrix::new(WeightFormat::Q4_1, usize::MAX, 32, Bytes::from_vec(vec![])).is_err());
    }
}
