//! What runs decoded kernels: memory of devices and blocks, warps, and the faults they can make.

mod fault;
mod memory;
mod shared;

pub use fault::{Cause, Fault};
pub use memory::{Allocation, Memory, POISON};
