//! The engine from outside, on a small model with random weights.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]

mod admission;
mod batching;
mod cancellation;
mod constraints;
mod fixture;
mod logprobs;
mod prefix_cache;
mod registry;
mod scheduling;
mod soak;
mod speculation;
mod stopping;
