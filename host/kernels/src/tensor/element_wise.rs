//! Operations on every element.

use super::{Tensor, mismatch};
use crate::KernelError;

impl Tensor {
    /// `self + other`, element by element.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn add(&self, other: &Self) -> Result<Self, KernelError> {
        self.combine(other, |a, b| a + b)
    }

    /// `self - other`, element by element.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn sub(&self, other: &Self) -> Result<Self, KernelError> {
        self.combine(other, |a, b| a - b)
    }

    /// `self · other`, element by element.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn mul(&self, other: &Self) -> Result<Self, KernelError> {
        self.combine(other, |a, b| a * b)
    }

    /// `self / other`, element by element, as IEEE 754 has it.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn div(&self, other: &Self) -> Result<Self, KernelError> {
        self.combine(other, |a, b| a / b)
    }

    /// Every value times `factor`.
    #[must_use]
    pub fn scale(&self, factor: f32) -> Self {
        self.map(|value| value * factor)
    }

    /// The square root of every value.
    #[must_use]
    pub fn sqrt(&self) -> Self {
        self.map(f32::sqrt)
    }

    /// The magnitude of every value.
    #[must_use]
    pub fn abs(&self) -> Self {
        self.map(f32::abs)
    }

    /// `e` to the power of every value.
    #[must_use]
    pub fn exp(&self) -> Self {
        self.map(f32::exp)
    }

    /// The natural logarithm of every value.
    #[must_use]
    pub fn ln(&self) -> Self {
        self.map(f32::ln)
    }

    fn map(&self, function: impl Fn(f32) -> f32) -> Self {
        Self { shape: self.shape.clone(), values: self.values.iter().map(|value| function(*value)).collect() }
    }

    fn combine(&self, other: &Self, function: impl Fn(f32, f32) -> f32) -> Result<Self, KernelError> {
        if self.shape != other.shape {
            return Err(mismatch(
                "element-wise operand",
                format!("{:?} against {:?}", self.shape, other.shape),
            ));
        }
        let values = self.values.iter().zip(&other.values).map(|(a, b)| function(*a, *b)).collect();
        Ok(Self { shape: self.shape.clone(), values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_must_agree() {
        let tensor = Tensor::new(vec![1, 3], vec![1.0, -2.0, 3.0]).unwrap();
        assert_eq!(tensor.add(&tensor).unwrap(), tensor.scale(2.0));
        assert_eq!(tensor.sub(&tensor).unwrap(), tensor.scale(0.0).abs());
        assert_eq!(tensor.mul(&tensor).unwrap().sqrt(), tensor.abs());
        assert_eq!(tensor.div(&tensor).unwrap().values(), [1.0; 3]);
        assert_eq!(tensor.scale(0.0).exp().ln().values(), [0.0; 3]);
        assert!(tensor.add(&tensor.sum()).is_err());
    }
}
