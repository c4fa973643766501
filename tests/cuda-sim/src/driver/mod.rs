//! The driver's interface: what `libcuda.so` exports.
//!
//! Work of streams is queued and runs when something waits for it, in a seeded order that respects streams and events
//! alone, so that a missing wait shows. Faults are printed, and stay as the context's error, as on hardware.

mod interface;
mod module;
mod state;
mod status;

pub use module::{LoadError, Module};
pub use status::Status;
