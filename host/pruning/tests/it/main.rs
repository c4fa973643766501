//! Pruning as its callers see it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod calibrating;
mod jobs;
mod models;
mod plan_document;
mod planning;
mod specs;
mod surgery;
