//! One tensor of a checkpoint, still in its file's format.

#![deny(clippy::indexing_slicing)]

use espalier_kernels::{Bytes, Matrix, WeightFormat, dequantize, quantize};

use crate::error::ModelError;

/// A named tensor whose bytes are, as a rule, a window into the memory-mapped file.
///
/// Names and the order of rows are HF's, whatever the file: llama.cpp interleaves the rows of Llama's q and k
/// projections, and [`StoredTensor::bytes`] puts them back byte for byte on each call, keeping no copy.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    /// HF name: `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Format of the values.
    pub format: WeightFormat,
    /// Sides, slowest first; the last is contiguous and is the one that a product contracts.
    pub shape: Vec<usize>,
    stored: Bytes,
    row_order: RowOrder,
}

/// How the rows of a file's matrix are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowOrder {
    /// As HF has them.
    Plain,
    /// As llama.cpp's converter leaves q and k of Llama for its pairwise rotation: in each head of d rows, HF's row
    /// `j + half * d/2` is stored as row `2 * j + half`.
    Interleaved {
        /// Heads in the matrix.
        heads: usize,
    },
}

impl StoredTensor {
    /// A tensor over `bytes`, which must be exactly as long as format and shape ask for.
    ///
    /// # Errors
    /// A row that isn't whole blocks, or a length that doesn't fit, by the tensor's name.
    pub fn new(
        name: String,
        format: WeightFormat,
        shape: Vec<usize>,
        bytes: Bytes,
    ) -> Result<Self, ModelError> {
        let expected = tensor_bytes(&name, format, &shape)?;
        if bytes.len() as u64 != expected {
            let what = format!("length of tensor {name}");
            return Err(ModelError::malformed(
                what,
                format!("{} bytes", bytes.len()),
                format!("{expected} bytes"),
            ));
        }
        Ok(Self { name, format, shape, stored: bytes, row_order: RowOrder::Plain })
    }

    pub(crate) fn with_row_order(mut self, row_order: RowOrder) -> Self {
        self.row_order = row_order;
        self
    }

    /// Number of values.
    #[must_use]
    pub fn values(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes that the tensor takes in its file.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.stored.len()
    }

    /// Rows and columns: a vector is one row, a tensor of more sides has all but the last flattened into rows.
    #[must_use]
    pub fn rows_and_columns(&self) -> (usize, usize) {
        match self.shape.split_last() {
            Some((&columns, rows)) => (rows.iter().product(), columns),
            None => (1, 1),
        }
    }

    /// The bytes with rows in HF's order.
    ///
    /// # Errors
    /// Only when the rows don't divide into heads, which readers have checked before.
    pub fn bytes(&self) -> Result<Bytes, ModelError> {
        match self.row_order {
            RowOrder::Plain => Ok(self.stored.clone()),
            RowOrder::Interleaved { heads } => {
                // A bias is permuted like the rows of its matrix.
                let rows = self.shape.first().copied().unwrap_or(1);
                let gathered = deinterleave_rows(self.stored.as_slice(), rows, heads);
                gathered.map(Bytes::from_vec).ok_or_else(|| {
                    let expected = format!("an even number of rows in each of {heads} heads");
                    ModelError::malformed(format!("rows of tensor {}", self.name), rows, expected)
                })
            }
        }
    }

    /// The tensor as a matrix for the kernels.
    ///
    /// # Errors
    /// See [`StoredTensor::bytes`].
    pub fn matrix(&self) -> Result<Matrix, ModelError> {
        let (rows, columns) = self.rows_and_columns();
        Ok(Matrix::new(self.format, rows, columns, self.bytes()?)?)
    }

    /// The bytes of the same values in `format`; a copy of its own if it has that format.
    ///
    /// # Errors
    /// A format that nothing is quantised to, or a value beyond f16's 65504.
    pub fn bytes_in(&self, format: WeightFormat) -> Result<Vec<u8>, ModelError> {
        if self.format == format {
            return Ok(self.bytes()?.as_slice().to_vec());
        }
        let values = self.to_f32()?;
        if format == WeightFormat::F16 {
            let largest = half::f16::MAX.to_f32();
            if let Some(value) = values.iter().find(|value| value.is_finite() && value.abs() > largest) {
                let what = format!("f16 for tensor {}: the value", self.name);
                return Err(ModelError::unsupported(
                    what,
                    value,
                    format!("up to {largest}; bf16 has the range"),
                ));
            }
        }
        let mut bytes = Vec::new();
        quantize(format, &values, &mut bytes)?;
        Ok(bytes)
    }

    /// All values as f32.
    ///
    /// # Errors
    /// See [`StoredTensor::bytes`].
    pub fn to_f32(&self) -> Result<Vec<f32>, ModelError> {
        let mut values = vec![0.0; self.values()];
        dequantize(self.format, self.bytes()?.as_slice(), &mut values)?;
        Ok(values)
    }
}

/// Bytes of a tensor of this format and shape.
///
/// # Errors
/// By the tensor's name: rows that aren't whole blocks, or a size beyond 64 bits.
pub(crate) fn tensor_bytes(name: &str, format: WeightFormat, shape: &[usize]) -> Result<u64, ModelError> {
    let (&columns, outer) = shape.split_last().unwrap_or((&1, &[]));
    let block = format.block_values();
    if !columns.is_multiple_of(block) {
        let expected = format!("a multiple of {block}, the block of {}", format.name());
        return Err(ModelError::malformed(format!("last side of tensor {name}"), columns, expected));
    }
    outer
        .iter()
        .try_fold((columns / block) as u64, |product, &side| product.checked_mul(side as u64))
        .and_then(|blocks| blocks.checked_mul(format.block_bytes() as u64))
        .ok_or_else(|| {
            ModelError::malformed(
                format!("shape of tensor {name}"),
                format!("{shape:?}"),
                "a size below 2^64 bytes",
            )
        })
}

/// The inverse of [`deinterleave_rows`]: HF's rows as llama.cpp's converter orders them.
pub(crate) fn interleave_rows(rows_in_order: &[u8], rows: usize, heads: usize) -> Option<Vec<u8>> {
    let (head_rows, row_bytes) = head_rows(rows_in_order, rows, heads)?;
    let mut interleaved = Vec::with_capacity(rows_in_order.len());
    for head in rows_in_order.chunks_exact(head_rows * row_bytes) {
        let (first, second) = head.split_at(head.len() / 2);
        for (even, odd) in first.chunks_exact(row_bytes).zip(second.chunks_exact(row_bytes)) {
            interleaved.extend_from_slice(even);
            interleaved.extend_from_slice(odd);
        }
    }
    Some(interleaved)
}

/// Rows of one head and bytes of one row; `None` if the rows aren't `heads` equal heads with two halves.
fn head_rows(bytes: &[u8], rows: usize, heads: usize) -> Option<(usize, usize)> {
    let head_rows = rows.checked_div(heads)?;
    let row_bytes = bytes.len().checked_div(rows)?;
    let whole = head_rows > 0 && head_rows.is_multiple_of(2) && head_rows * heads == rows && row_bytes > 0;
    whole.then_some((head_rows, row_bytes))
}

/// Puts llama.cpp's interleaved rows back into HF's order: per head, even rows first, then odd rows.
fn deinterleave_rows(stored: &[u8], rows: usize, heads: usize) -> Option<Vec<u8>> {
    let (head_rows, row_bytes) = head_rows(stored, rows, heads)?;
    let mut gathered = Vec::with_capacity(stored.len());
    for head in stored.chunks_exact(head_rows * row_bytes) {
        for half in [0, 1] {
            for row in head.chunks_exact(row_bytes).skip(half).step_by(2) {
                gathered.extend_from_slice(row);
            }
        }
    }
    Some(gathered)
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
        assert_eq!(deinterleave_rows(&interleaved, 8, 2).unwrap(), in_order);
        assert_eq!(interleave_rows(&in_order, 8, 3), None);
        assert_eq!(deinterleave_rows(&in_order, 8, 0), None);
    }

    #[test]
    fn lengths_must_fit_shapes() {
        let bytes = || Bytes::from_vec(vec![0; 36]);
        assert!(StoredTensor::new("t".into(), WeightFormat::Q4_0, vec![2, 32], bytes()).is_ok());
        let error =
            StoredTensor::new("t".into(), WeightFormat::F32, vec![2, 4], bytes()).unwrap_err().to_string();
        assert_eq!(error, "length of tensor t: found 36 bytes, expected 32 bytes");
        let error =
            StoredTensor::new("t".into(), WeightFormat::Q4_0, vec![2, 31], bytes()).unwrap_err().to_string();
        assert!(error.contains("tensor t") && error.contains("31") && error.contains("32"), "{error}");
        let huge = vec![1 << 40, 1 << 40];
        assert!(tensor_bytes("t", WeightFormat::F32, &huge).unwrap_err().to_string().contains("tensor t"));
    }
}
