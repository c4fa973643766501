//! A weight matrix: rows of blocks in one of the weight formats.

use std::sync::{Arc, OnceLock};

use crate::cpu::PackedMatrix;
use crate::dequantize::dequantize;
use crate::error::check_length;
use crate::{Bytes, KernelError, WeightFormat};

/// `rows × columns` values, row-major, each row a whole number of blocks. The last dimension is the contraction.
#[derive(Clone, Debug)]
pub struct Matrix {
    format: WeightFormat,
    rows: usize,
    columns: usize,
    row_bytes: usize,
    bytes: Bytes,
    /// The rearranged copy for fast products, made when the first one needs it and shared by clones.
    packed: Arc<OnceLock<Option<PackedMatrix>>>,
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
        Ok(Self { format, rows, columns, row_bytes, bytes, packed: Arc::default() })
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

    /// The storage.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
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

    /// The blocks of row `index`.
    ///
    /// # Errors
    /// When there is no such row.
    pub fn row(&self, index: usize) -> Result<&[u8], KernelError> {
        if index >= self.rows {
            return Err(KernelError::OutOfRange { what: "a matrix row", found: index, limit: self.rows });
        }
        Ok(self
            .bytes
            .as_slice()
            .get(index * self.row_bytes..(index + 1) * self.row_bytes)
            .unwrap_or_default())
    }

    /// Writes the values of row `index` to `out`, which holds `columns` values.
    ///
    /// # Errors
    /// When there is no such row or `out` has another length.
    pub fn dequantize_row(&self, index: usize, out: &mut [f32]) -> Result<(), KernelError> {
        dequantize(self.format, self.row(index)?, out)
    }

    /// All values, row-major.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.columns];
        // The constructor checked the only thing that can be wrong here: the length.
        let result = dequantize(self.format, self.bytes.as_slice(), &mut values);
        debug_assert!(result.is_ok());
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
