//! What can go wrong in a kernel: always the caller's shapes, formats or the machine's resources, never the arithmetic.

use crate::WeightFormat;

/// A refused operation. Nothing was written to the outputs unless a variant says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A row does not divide into the format's blocks.
    #[error("a row of {columns} values does not divide into {format} blocks of {block}", format = format.name())]
    RaggedRow {
        /// The weight format.
        format: WeightFormat,
        /// Values in the row.
        columns: usize,
        /// Values in one block.
        block: usize,
    },
    /// A slice or a file region has the wrong length.
    #[error("{what} has {found} elements, expected {expected}")]
    Length {
        /// What was measured.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length it must have.
        expected: usize,
    },
    /// An index or a range ends beyond what there is.
    #[error("{what} reaches {found}, but the limit is {limit}")]
    OutOfRange {
        /// What was addressed.
        what: &'static str,
        /// The index or end that was asked for.
        found: usize,
        /// One past the last valid value.
        limit: usize,
    },
    /// A shape does not make sense or overflows the address space.
    #[error("the shape of {what} is not usable: {reason}")]
    Shape {
        /// What has the shape.
        what: &'static str,
        /// Why it cannot be used, with the numbers.
        reason: String,
    },
    /// The format has no such operation.
    #[error("{operation} is not implemented for the format {format}", format = format.name())]
    Unsupported {
        /// The operation.
        operation: &'static str,
        /// The weight format.
        format: WeightFormat,
    },
    /// A worker thread could not be started.
    #[error("worker thread {index} could not be started: {source}")]
    Thread {
        /// Number of the worker, from 1.
        index: usize,
        /// The system's reason.
        source: std::io::Error,
    },
    /// There is no CUDA device that can be used, or no compiler for its kernels.
    #[error("{reason}")]
    NoDevice {
        /// What was looked for and what was found.
        reason: String,
    },
    /// The CUDA driver or compiler refused.
    #[error("{action} failed: {reason}")]
    Device {
        /// What was asked.
        action: &'static str,
        /// Its answer.
        reason: String,
    },
    /// Memory could not be reserved.
    #[error("{bytes} bytes for {what} could not be reserved")]
    Memory {
        /// What the memory was for.
        what: &'static str,
        /// How much.
        bytes: usize,
    },
}

/// Fails unless `found == expected`.
pub(crate) fn check_length(what: &'static str, found: usize, expected: usize) -> Result<(), KernelError> {
    if found == expected { Ok(()) } else { Err(KernelError::Length { what, found, expected }) }
}
