//! The safetensors container: a JSON header and raw little-endian tensors.

#![deny(clippy::indexing_slicing)]

mod header;
mod write;

pub use self::header::{Dtype, Entry, Header, parse};
pub use self::write::{Planned, ShardWriter};
