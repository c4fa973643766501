//! The exported functions, by the names and signatures of `cuda.h`.
//!
//! A pointer that the caller hands over is trusted as far as C has it: it is null, or it points to what the signature says.

mod device;
mod graph;
mod memory;
mod module;
mod stream;

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use super::module::Module;
use super::state::{Event, Function, Stream, Work, driver, setting};
use super::status::{
    INVALID_CONTEXT, INVALID_DEVICE, INVALID_HANDLE, INVALID_PTX, INVALID_VALUE, NO_BINARY_FOR_GPU,
    NOT_FOUND, NOT_READY, NOT_SUPPORTED, OUT_OF_MEMORY, SUCCESS, Status, describe,
};
use crate::machine::{Allocation, Grid};

/// Shared memory of a block that a kernel may use without asking.
const SHARED: usize = 48 << 10;
/// Shared memory of a block that it may ask for.
const LARGEST_SHARED: usize = 227 << 10;

thread_local! {
    /// The current context: a device and one.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

fn devices() -> usize {
    setting("CUDA_SIM_DEVICES", 1) as usize
}

fn memory_bytes() -> usize {
    setting("CUDA_SIM_MEMORY", 8 << 30) as usize
}

fn device() -> usize {
    CURRENT.get().saturating_sub(1) as usize
}

/// Gives a result to the caller.
fn put<T>(to: *mut T, value: T) -> Status {
    if to.is_null() {
        return INVALID_VALUE;
    }
    // SAFETY: not null, so the caller says that it is writable.
    unsafe { to.write(value) };
    SUCCESS
}

/// The default streams are all one.
fn stream(handle: u64) -> u64 {
    if handle <= 2 { 0 } else { handle }
}

fn name<'a>(text: *const c_char) -> Option<&'a str> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, so the caller says that a zero byte ends it.
    unsafe { CStr::from_ptr(text) }.to_str().ok()
}
