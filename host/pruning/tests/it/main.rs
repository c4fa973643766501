//! Pruning as its callers see it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod ablating;
mod calibrating;
mod gpt_oss;
mod gpt_oss_logits;
mod gpt_oss_surgery;
mod gradient_scores;
mod jobs;
mod loader_rules;
mod mixtures;
mod models;
mod plan_document;
mod planning;
mod policies;
mod refitting;
mod room;
mod searching;
mod specs;
mod surgery;
