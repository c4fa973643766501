//! Bytes on their way into a file.

use std::ops::{Deref, Range};

use espalier_kernels::Bytes;

use crate::error::ModelError;
use crate::stored_tensor::tensor_bytes;
use crate::tensor_plan::TensorPlan;

/// What a tensor's bytes come from: asked for a range of the tensor's first side, it gives the bytes of that part.
pub type ProducePart<'a> = dyn FnMut(&TensorPlan, Range<usize>) -> Result<TensorBytes, ModelError> + 'a;

/// Bytes for a writer: a window into a mapped file, which costs no memory, or some of their own.
#[derive(Clone, Debug)]
pub enum TensorBytes {
    /// Shared by reference.
    Shared(Bytes),
    /// Made for the writer.
    Owned(Vec<u8>),
}

impl Deref for TensorBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes.as_slice(),
            Self::Owned(bytes) => bytes,
        }
    }
}

impl From<Bytes> for TensorBytes {
    fn from(bytes: Bytes) -> Self {
        Self::Shared(bytes)
    }
}

impl From<Vec<u8>> for TensorBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Owned(bytes)
    }
}

/// The bytes, if they are as many as the plan says for this part.
pub(crate) fn checked(
    plan: &TensorPlan,
    part: &Range<usize>,
    bytes: TensorBytes,
) -> Result<TensorBytes, ModelError> {
    let mut shape = plan.shape.clone();
    if let Some(side) = shape.first_mut() {
        *side = part.len();
    }
    let expected = tensor_bytes(&plan.name, plan.format, &shape)?;
    if bytes.len() as u64 == expected {
        return Ok(bytes);
    }
    Err(ModelError::argument(
        format!("bytes produced for tensor {}", plan.name),
        bytes.len(),
        expected.to_string(),
    ))
}
