//! Measurements as their callers see them.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod evaluating;
mod fixture;
mod generating;
mod metrics;
mod reports;
mod scoring;
