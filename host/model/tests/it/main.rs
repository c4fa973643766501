//! Checkpoints, tokenizers and templates through the crate's public interface.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod synthetic_models;
