//! Measurements that the engine offers as they happen; what is counted and exported is the server's choice.

use std::time::Duration;

use crate::event::{FinishReason, Usage};

/// Receives measurements on the engine's thread: implementations must not block.
pub trait EngineObserver: Send + Sync {
    /// A request produced its first token, `since_arrival` after it was submitted.
    fn first_token(&self, since_arrival: Duration);
    /// A request produced another token, `gap` after the one before.
    fn next_token(&self, gap: Duration);
    /// A request left the engine.
    fn request(&self, record: &RequestRecord);
    /// A forward pass was made.
    fn step(&self, record: &StepRecord);
}

/// The life of a request.
#[derive(Clone, Debug)]
pub struct RequestRecord {
    /// Tokens in and out.
    pub usage: Usage,
    /// The request's own bound on new tokens.
    pub max_tokens: usize,
    /// `None` when the client went away or the pass failed.
    pub finish: Option<FinishReason>,
    /// From arrival to the first step that ran it.
    pub queued: Duration,
    /// From that step to the first token.
    pub prefill: Duration,
    /// From the first token to the last.
    pub decode: Duration,
    /// From arrival to the end.
    pub total: Duration,
}

/// One forward pass.
#[derive(Clone, Debug)]
pub struct StepRecord {
    /// Prompt tokens that were computed in it for the first time.
    pub prefill_tokens: usize,
    /// Tokens that were computed in it again, of sequences that had been preempted.
    pub recomputed_tokens: usize,
    /// Tokens of completions that were computed in it for the first time: one for each sequence that decodes, and the
    /// right guesses.
    pub decode_tokens: usize,
    /// Prompt tokens of the sequences that begin with it, if the cache was searched for them.
    pub prefix_queries: usize,
    /// Those of them that were in the cache.
    pub prefix_hits: usize,
    /// Sequences for which tokens were guessed.
    pub guesses: usize,
    /// The guessed tokens that it checked.
    pub guessed_tokens: usize,
    /// Those of them that were right.
    pub right_tokens: usize,
    /// Sequences that gave up their blocks to others.
    pub preemptions: usize,
    /// How long it took, sampling included.
    pub duration: Duration,
}

/// An observer that ignores everything.
#[derive(Copy, Clone, Debug)]
pub struct Silent;

impl EngineObserver for Silent {
    fn first_token(&self, _: Duration) {}
    fn next_token(&self, _: Duration) {}
    fn request(&self, _: &RequestRecord) {}
    fn step(&self, _: &StepRecord) {}
}
