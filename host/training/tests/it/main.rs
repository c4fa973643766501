//! Training through the crate's public interface, on tiny models.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod forward_pass;
mod gradients;
mod low_rank_adapters;
mod models;
mod pytorch;
mod runs;
