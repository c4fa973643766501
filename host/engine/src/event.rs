//! What a request's stream carries.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::logprobs::TokenLogprobs;

/// The receiving end of a request. Dropping it cancels the request: its blocks are free after the next step.
pub type EventStream = mpsc::UnboundedReceiver<Event>;

/// Something that happened to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// How probable the prompt was: its tokens from the second on. Only for a request
    /// [with the prompt's log-probabilities](crate::GenerateRequest::with_prompt_logprobs), and before any text.
    Prompt {
        /// One for each token but the first.
        logprobs: Vec<TokenLogprobs>,
    },
    /// New text; `token_ids` are the tokens that completed it.
    Text {
        /// Whole UTF-8 characters, stop strings already cut off; empty only for a request
        /// [with every token](crate::GenerateRequest::with_every_token), or as the last one for one with log-probabilities.
        text: String,
        /// Tokens since the last event.
        token_ids: Vec<u32>,
        /// One for each of `token_ids` for a request [with log-probabilities](crate::GenerateRequest::with_logprobs),
        /// otherwise none.
        logprobs: Vec<TokenLogprobs>,
    },
    /// The end; nothing follows.
    Finished {
        /// Why it ended.
        reason: FinishReason,
        /// Its tokens.
        usage: Usage,
        /// How long it took.
        times: RequestTimes,
    },
    /// The request's constraint went beyond its limits, and why; nothing follows.
    GrammarTooComplex(String),
    /// The forward pass failed; nothing follows.
    Failed(String),
}

/// Why generation ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// The model's end token or a stop string.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
}

impl FinishReason {
    /// OpenAI's word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// Tokens of a request.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that were in the cache and not computed.
    pub cached_tokens: usize,
    /// Tokens generated, the end token included.
    pub completion_tokens: usize,
}

/// How long a request took, from when it was submitted; waiting is part of it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestTimes {
    /// Until its first token.
    pub first_token: Duration,
    /// Until its end.
    pub total: Duration,
}
