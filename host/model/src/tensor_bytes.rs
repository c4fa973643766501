//! Bytes on their way into a file.

use std::ops::Deref;

use espalier_kernels::Bytes;

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
