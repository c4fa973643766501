//! Pruning as its callers see it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod calibrating;
mod jobs;
mod models;
mod plan_document;
mod planning;
mod specs;
mod surgery;
