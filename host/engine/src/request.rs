//! A request that has been checked: what reaches the engine is always runnable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::constraint::Constraint;
use crate::error::EngineError;
use crate::logprobs::MAX_TOP_LOGPROBS;
use crate::sampling_params::SamplingParams;
use crate::scheduler::Flow;

/// Stop strings per request, as in OpenAI's API.
pub const MAX_STOP_STRINGS: usize = 4;

/// Tells the engine that a request has got all that it wanted before its stream is dropped: the request then counts as
/// stopped and not as cancelled.
#[derive(Clone, Debug, Default)]
pub struct Satisfied {
    flag: Arc<AtomicBool>,
}

impl Satisfied {
    /// Says so.
    pub fn set(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

/// A prompt and how to continue it.
#[derive(Clone, Debug)]
pub struct GenerateRequest {
    pub(crate) prompt: Vec<u32>,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) sampling: SamplingParams,
    pub(crate) stop: Vec<String>,
    pub(crate) every_token: bool,
    pub(crate) min_tokens: usize,
    pub(crate) ignores_end: bool,
    pub(crate) logprobs: Option<usize>,
    pub(crate) prompt_logprobs: bool,
    pub(crate) constraint: Option<Constraint>,
    pub(crate) satisfied: Satisfied,
    pub(crate) priority: i64,
    pub(crate) flow: Flow,
    pub(crate) cache_salt: Option<Arc<str>>,
}

impl GenerateRequest {
    /// `max_tokens` `None` runs to the end of the context; 0 generates nothing, which is for a prompt
    /// [whose log-probabilities](GenerateRequest::with_prompt_logprobs) are wanted. The prompt's length is checked against the context when the
    /// request is submitted, since only the engine knows it.
    ///
    /// # Errors
    /// An empty prompt, more than [`MAX_STOP_STRINGS`] stop strings or an empty one.
    pub fn new(
        prompt: Vec<u32>,
        max_tokens: Option<usize>,
        sampling: SamplingParams,
        stop: Vec<String>,
    ) -> Result<Self, EngineError> {
        if prompt.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        if stop.len() > MAX_STOP_STRINGS {
            return Err(EngineError::InvalidParameter {
                field: "stop",
                found: format!("{} strings", stop.len()),
                expected: "at most 4 strings",
            });
        }
        if stop.iter().any(String::is_empty) {
            return Err(EngineError::InvalidParameter {
                field: "stop",
                found: "an empty string".to_owned(),
                expected: "strings of at least one character",
            });
        }
        let satisfied = Satisfied::default();
        Ok(Self {
            prompt,
            max_tokens,
            sampling,
            stop,
            every_token: false,
            min_tokens: 0,
            ignores_end: false,
            logprobs: None,
            prompt_logprobs: false,
            constraint: None,
            satisfied,
            priority: 0,
            flow: None,
            cache_salt: None,
        })
    }

    /// The same request, with an event for each token, also for those that complete no text: control tokens, the end
    /// token. For whoever reads more out of an answer than its text.
    #[must_use]
    pub fn with_every_token(self) -> Self {
        Self { every_token: true, ..self }
    }

    /// The same request, in whose first `min_tokens` tokens no end token is sampled and no stop string looked for.
    ///
    /// # Errors
    /// More than the request's `max_tokens`.
    pub fn with_min_tokens(self, min_tokens: usize) -> Result<Self, EngineError> {
        if self.max_tokens.is_some_and(|max_tokens| min_tokens > max_tokens) {
            return Err(EngineError::InvalidParameter {
                field: "min_tokens",
                found: min_tokens.to_string(),
                expected: "at most max_tokens",
            });
        }
        Ok(Self { min_tokens, ..self })
    }

    /// The same request, which end tokens don't end: they are tokens without text like other control tokens.
    #[must_use]
    pub fn ignoring_end(self) -> Self {
        Self { ignores_end: true, ..self }
    }

    /// The same request, with the log-probability of each generated token and of the `top` most probable ones at its
    /// place. Every generated token is then reported, the end token too.
    ///
    /// # Errors
    /// More than [`MAX_TOP_LOGPROBS`].
    pub fn with_logprobs(self, top: usize) -> Result<Self, EngineError> {
        if top > MAX_TOP_LOGPROBS {
            return Err(EngineError::InvalidParameter {
                field: "top_logprobs",
                found: top.to_string(),
                expected: "at most 20",
            });
        }
        Ok(Self { logprobs: Some(top), ..self })
    }

    /// A request with log-probabilities, with those of the prompt's tokens too.
    #[must_use]
    pub fn with_prompt_logprobs(self) -> Self {
        Self { prompt_logprobs: true, ..self }
    }

    /// The same request, served before those of a higher number and after those of a lower one; 0 otherwise.
    #[must_use]
    pub fn with_priority(self, priority: i64) -> Self {
        Self { priority, ..self }
    }

    /// The same request as one of `flow`: requests of one priority share the service fairly between their flows.
    #[must_use]
    pub fn with_flow(self, flow: Arc<str>) -> Self {
        Self { flow: Some(flow), ..self }
    }

    /// The same request, sharing cached prefixes only with requests of the same salt: how long a request takes then
    /// says nothing about the prompts of others.
    #[must_use]
    pub fn with_cache_salt(self, salt: Arc<str>) -> Self {
        Self { cache_salt: Some(salt), ..self }
    }

    /// The same request, whose completion is kept to a grammar. End tokens are sampled just where the text may end, and
    /// the request stops by itself where nothing else can follow, whatever its least number of tokens. Where end tokens
    /// end nothing, none is sampled. A stop string or the greatest number of tokens may end the text before the grammar
    /// does.
    #[must_use]
    pub fn with_constraint(self, constraint: Constraint) -> Self {
        Self { constraint: Some(constraint), ..self }
    }

    /// What its reader may set before it drops the stream.
    #[must_use]
    pub fn satisfied(&self) -> Satisfied {
        self.satisfied.clone()
    }

    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.prompt.len()
    }
}
