//! Dense f32 tensors of rank 1 to 3 and the operations that scoring policies need.
//!
//! The last axis is the columns, everything before it the rows (tokens). Sums run in f64. What a policy may use of this,
//! and how much room its results get, is decided elsewhere.

mod element_wise;
mod products;
mod ranking;
mod reductions;
mod rows;

use crate::KernelError;
use crate::error::check_length;

/// Values with a shape, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Tensor {
    /// A tensor of `values` in `shape`.
    ///
    /// # Errors
    /// When the rank is not 1 to 3 or the number of values is not the product of the shape.
    pub fn new(shape: Vec<usize>, values: Vec<f32>) -> Result<Self, KernelError> {
        let product = shape.iter().try_fold(1usize, |product, axis| product.checked_mul(*axis));
        let Some(expected) = product.filter(|_| (1..=3).contains(&shape.len())) else {
            let reason = format!("{shape:?} is not a shape of rank 1 to 3");
            return Err(KernelError::Shape { what: "tensor", reason });
        };
        check_length("the values of a tensor", values.len(), expected)?;
        Ok(Self { shape, values })
    }

    /// A tensor of rank 1.
    pub fn from_vec(values: Vec<f32>) -> Self {
        Self { shape: vec![values.len()], values }
    }

    /// The length of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The values, without the shape.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// Bytes of the values, for quotas.
    pub fn bytes(&self) -> usize {
        self.values.len() * size_of::<f32>()
    }

    /// Length of the last axis.
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or_default()
    }

    /// Product of the axes before the last.
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.columns()).unwrap_or_default()
    }

    /// The same values in another shape.
    ///
    /// # Errors
    /// When the rank is not 1 to 3 or the number of values changes.
    pub fn reshape(&self, shape: Vec<usize>) -> Result<Self, KernelError> {
        Self::new(shape, self.values.clone())
    }

    /// Rows, of which one without columns has none.
    fn each_row(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.columns().max(1))
    }

    /// This shape with another last axis.
    fn shape_with_columns(&self, columns: usize) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = columns;
        }
        shape
    }
}

/// The error for operands that do not fit.
fn mismatch(what: &'static str, reason: String) -> KernelError {
    KernelError::Shape { what, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_hold_exactly_their_values() {
        let tensor = Tensor::new(vec![2, 2, 2], vec![0.0; 8]).unwrap();
        assert_eq!((tensor.rows(), tensor.columns(), tensor.bytes()), (4, 2, 32));
        assert_eq!(tensor.reshape(vec![8]).unwrap().rows(), 1);
        assert!(tensor.reshape(vec![3, 3]).is_err());
        assert!(Tensor::new(vec![], vec![]).is_err());
        assert!(Tensor::new(vec![2, 2], vec![0.0; 3]).is_err());
        assert!(Tensor::new(vec![usize::MAX, 3], vec![]).is_err());
    }
}
