//! What runs decoded kernels: memory of devices and blocks, warps, and the faults they can make.

mod block;
mod fault;
mod memory;
mod shared;
mod together;
mod warp;

pub use block::{Grid, Order, launch};
pub use fault::{Cause, Fault};
pub use memory::{Allocation, Memory, POISON};
pub(crate) use memory::{raw_read, raw_write};
