//! A simulated CUDA driver, `libcuda.so`: programs that load the driver at run time run on it without a GPU, with the PTX
//! that NVIDIA's own compiler made. For tests alone.
//!
//! Kernels are interpreted, a warp at a time. The other way, C translated from PTX with a fiber for each thread, was
//! proven to work, but it needs a C compiler at run time, stack switching in assembly and minutes for large modules, and
//! its checks must be written into generated code. An interpreter has the lanes, masks and addresses of each access at
//! hand, so that bounds, races and divergence are found where they happen, and one instruction for 32 lanes costs little
//! more than its dispatch. Each lane has a place of its own in the program; the lanes at the lowest place run first,
//! which brings them together again after branches without an analysis of the program's flow.
//!
//! What it proves: logic, indices, synchronisation and host code. What it doesn't: speed, the order of memory between
//! blocks, the last bits of `mma.sync` and of approximations.
#![expect(
    unsafe_code,
    reason = "device addresses are addresses of the host, and the driver's interface is C"
)]
#![expect(
    clippy::print_stderr,
    reason = "a fault must be seen whatever the program under test does with its errors"
)]

pub mod driver;
pub mod machine;
pub mod program;
pub mod ptx;
