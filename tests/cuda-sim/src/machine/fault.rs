//! What a kernel can do wrong, and where it did it.

use crate::program::AccessSpace;

/// Something that a kernel may not do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum Cause {
    #[error(
        "{verb} of {bytes} bytes at {address:#x} of {space:?} memory: outside of every allocation{nearest}"
    )]
    OutOfBounds { verb: &'static str, bytes: usize, address: u64, space: AccessSpace, nearest: String },
    #[error("{verb} of {bytes} bytes at {address:#x}: that memory was freed")]
    Freed { verb: &'static str, bytes: usize, address: u64 },
    #[error("{verb} of {bytes} bytes at {address:#x}, which is not a multiple of {bytes}")]
    Misaligned { verb: &'static str, bytes: usize, address: u64 },
    #[error("write of {bytes} bytes at {address:#x} of memory that kernels only read")]
    ReadOnly { bytes: usize, address: u64 },
    #[error("race: {verb} of shared byte {address:#x}, which {other} {other_verb} with no barrier between")]
    Race { verb: &'static str, address: u64, other: String, other_verb: &'static str },
    #[error("the mask {mask:#010x} doesn't have the executing lane")]
    NotInMask { mask: u32 },
    #[error("the mask {mask:#010x} names lane {lane}, which {state}")]
    LaneMissing { mask: u32, lane: usize, state: String },
    #[error("barrier {id} never opens: {state}")]
    Barrier { id: usize, state: String },
    #[error("barrier {id} doesn't exist; there are 16")]
    NoSuchBarrier { id: u64 },
    #[error("barrier {id} is told of {threads} threads, which is no multiple of 32 within the block")]
    BarrierThreads { id: usize, threads: u64 },
    #[error("branch index {index} of a table of {targets}")]
    BranchIndex { index: u64, targets: usize },
    #[error("trap")]
    Trap,
    #[error("the block ran {steps} instructions without an end")]
    Endless { steps: u64 },
}

impl Cause {
    /// Whether it is an address that was wrong.
    pub fn is_address(&self) -> bool {
        matches!(self, Self::OutOfBounds { .. } | Self::Freed { .. } | Self::ReadOnly { .. })
    }
}

/// A fault with its place.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("kernel `{kernel}`, block {block:?}, thread {thread:?}, `{instruction}`: {cause}")]
#[expect(missing_docs, reason = "the message says what the fields are")]
pub struct Fault {
    pub kernel: String,
    pub block: [u32; 3],
    pub thread: [u32; 3],
    pub instruction: String,
    pub cause: Cause,
}

/// A fault inside a warp, before its place is named.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) lane: usize,
    pub(crate) step: usize,
    pub(crate) cause: Cause,
}
