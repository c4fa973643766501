//! Measurements as their callers see them.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod evaluating;
mod fixture;
mod metrics;
mod reports;
mod scoring;
