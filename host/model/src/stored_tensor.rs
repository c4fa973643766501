//! One tensor of a checkpoint, still in its file's format.

#![deny(clippy::indexing_slicing)]

use std::ops::Range;

use espalier_kernels::{Bytes, Matrix, SplitMxfp4, WeightFormat, dequantize};

use crate::error::ModelError;
use crate::export::requantize;
use crate::layout::{Layout, Stride};

/// A named tensor whose bytes are, as a rule, a window into the memory-mapped file.
///
/// Names and the order of rows are HF's, and blocks are ggml's, whatever the file: where it has another order,
/// [`StoredTensor::bytes`] moves the bytes on each call and keeps no copy.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    /// HF name: `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Format of the values.
    pub format: WeightFormat,
    /// Sides, slowest first; the last is contiguous and is the one that a product contracts.
    pub shape: Vec<usize>,
    byte_len: usize,
    layout: Layout,
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
        let found = bytes.len();
        let tensor = Self::with_layout(name, format, shape, Layout::Plain(bytes))?;
        if found != tensor.byte_len {
            let what = format!("length of tensor {}", tensor.name);
            return Err(ModelError::malformed(
                what,
                format!("{found} bytes"),
                format!("{} bytes", tensor.byte_len),
            ));
        }
        Ok(tensor)
    }

    /// A tensor whose bytes a reader has found to be enough for `layout` to give all of `shape`.
    pub(crate) fn with_layout(
        name: String,
        format: WeightFormat,
        shape: Vec<usize>,
        layout: Layout,
    ) -> Result<Self, ModelError> {
        let bytes = tensor_bytes(&name, format, &shape)?;
        let byte_len = usize::try_from(bytes).map_err(|_| {
            ModelError::malformed(format!("size of tensor {name}"), bytes, "an addressable size")
        })?;
        Ok(Self { name, format, shape, byte_len, layout })
    }

    /// Number of values.
    #[must_use]
    pub fn values(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes that the tensor takes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.byte_len
    }

    /// Rows and columns: a vector is one row, a tensor of more sides has all but the last flattened into rows.
    #[must_use]
    pub fn rows_and_columns(&self) -> (usize, usize) {
        match self.shape.split_last() {
            Some((&columns, rows)) => (rows.iter().product(), columns),
            None => (1, 1),
        }
    }

    /// The bytes with rows in HF's order and blocks in ggml's.
    ///
    /// # Errors
    /// Only when the layout doesn't fit the shape, which readers have checked before.
    pub fn bytes(&self) -> Result<Bytes, ModelError> {
        let rows = self.shape.first().copied().unwrap_or(1);
        let bytes = self.layout.bytes(rows).filter(|bytes| bytes.len() == self.byte_len);
        bytes.ok_or_else(|| {
            let what = format!("layout of tensor {}", self.name);
            ModelError::malformed(what, format!("bytes that don't make {:?}", self.shape), "whole rows")
        })
    }

    /// The part with the indices `wanted` of the first side: rows of a matrix, experts of their matrices, values of a
    /// vector. Costs no copy where the bytes are in the file as they are here.
    ///
    /// # Errors
    /// A range that is reversed or goes beyond that side.
    pub fn slice(&self, wanted: Range<usize>) -> Result<Self, ModelError> {
        let first = self.shape.first().copied().unwrap_or(1);
        let out_of_range = || {
            let what = format!("part of tensor {}", self.name);
            ModelError::argument(what, format!("{wanted:?}"), format!("a range inside 0..{first}"))
        };
        // A vector in a block format is one row, which a range of values may cut.
        let whole_blocks = self.shape.len() > 1 || self.format.block_values() == 1;
        if wanted.start > wanted.end || wanted.end > first || !whole_blocks {
            return Err(out_of_range());
        }
        let layout = self.layout.slice(first, wanted.clone()).ok_or_else(out_of_range)?;
        let mut shape = self.shape.clone();
        if let Some(side) = shape.first_mut() {
            *side = wanted.len();
        }
        Self::with_layout(self.name.clone(), self.format, shape, layout)
    }

    /// The tensor as a matrix for the kernels.
    ///
    /// # Errors
    /// See [`StoredTensor::bytes`].
    pub fn matrix(&self) -> Result<Matrix, ModelError> {
        let (rows, columns) = self.rows_and_columns();
        if let Layout::SplitMxfp4 { blocks, scales, rows: Stride { step, offset }, .. } = &self.layout {
            let split = SplitMxfp4::new(blocks.clone(), scales.clone(), columns, *offset, *step)?;
            return Ok(Matrix::from_split_mxfp4(split)?);
        }
        let matrix = Matrix::new(self.format, rows, columns, self.bytes()?)?;
        if !matches!(self.layout, Layout::Plain(_)) {
            // The matrix is a copy: its source need not stay resident beside it.
            self.layout.release();
        }
        Ok(matrix)
    }

    /// The matrices of a tensor `[experts, rows, columns]`, one for each expert, without a copy where their blocks lie
    /// as the kernels read them.
    ///
    /// # Errors
    /// A tensor of another number of sides; see also [`StoredTensor::bytes`].
    pub fn expert_matrices(&self) -> Result<Vec<Matrix>, ModelError> {
        let &[experts, _, _] = self.shape.as_slice() else {
            let what = format!("shape of tensor {}", self.name);
            return Err(ModelError::malformed(what, format!("{:?}", self.shape), "[experts, rows, columns]"));
        };
        (0..experts).map(|expert| self.slice(expert..expert + 1)?.matrix()).collect()
    }

    /// The bytes of the same values in `format`; a copy of its own if it has that format.
    ///
    /// # Errors
    /// A format that nothing is quantised to, rows that aren't whole blocks of it, or a value that it would lose: beyond
    /// f16's 65504, or not finite in a block.
    pub fn bytes_in(&self, format: WeightFormat) -> Result<Vec<u8>, ModelError> {
        if self.format == format {
            return Ok(self.bytes()?.as_slice().to_vec());
        }
        tensor_bytes(&self.name, format, &self.shape)?;
        let (bytes, _) = requantize(&self.name, self.format, self.bytes()?.as_slice(), format, 0)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Stride;

    #[test]
    fn parts_are_those_of_the_whole_whatever_the_layout() {
        let bytes = || Bytes::from_vec((0..=255).collect());
        let layouts = [
            (WeightFormat::F16, vec![8, 16], Layout::Plain(bytes())),
            (WeightFormat::F16, vec![8, 16], Layout::InterleavedRows { bytes: bytes(), heads: 2 }),
            (
                WeightFormat::F16,
                vec![4, 16],
                Layout::EveryOther { bytes: bytes(), value_bytes: 2, offset: 1 },
            ),
            (
                WeightFormat::F16,
                vec![4, 8, 4],
                Layout::Transposed {
                    bytes: bytes(),
                    stored_rows: 4,
                    stored_columns: 8,
                    value_bytes: 2,
                    columns: Stride::ALL,
                },
            ),
            (
                WeightFormat::Mxfp4,
                vec![2, 2, 64],
                Layout::SplitMxfp4 {
                    blocks: bytes(),
                    scales: Bytes::from_vec((0..16).collect()),
                    row_blocks: 2,
                    rows: Stride::UP,
                },
            ),
        ];
        for (format, shape, layout) in layouts {
            let tensor = StoredTensor::with_layout("t".into(), format, shape, layout).unwrap();
            let whole = tensor.bytes().unwrap();
            let (first, row) = (tensor.shape[0], tensor.byte_len() / tensor.shape[0]);
            for (start, end) in [(0, first), (1, first), (0, 1), (1, 2), (1, 1)] {
                let part = tensor.slice(start..end).unwrap();
                assert_eq!(part.shape[0], end - start);
                assert_eq!(part.bytes().unwrap().as_slice(), &whole.as_slice()[start * row..end * row]);
            }
            let error = tensor.slice(0..first + 1).unwrap_err().to_string();
            assert!(error.contains("part of tensor t"), "{error}");
        }
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
