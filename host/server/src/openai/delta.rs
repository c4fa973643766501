//! The pieces that a choice is told in.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::openai::logprobs::LogprobEntry;

/// A piece of a choice.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// What the model thinks.
    Reasoning(String),
    /// What it answers.
    Content {
        /// The text; empty where only log-probabilities are left to say.
        text: String,
        /// Of the tokens that the text is of, if they were asked for.
        logprobs: Vec<LogprobEntry>,
    },
    /// A call begins.
    ToolCall {
        /// Its place among the calls.
        index: usize,
        /// Its id, made here.
        id: String,
        /// The function.
        name: String,
    },
    /// Part of a call's arguments.
    Arguments {
        /// The call's place.
        index: usize,
        /// The part.
        text: String,
    },
    /// The end; nothing follows.
    Finished(Ending),
}

impl Delta {
    /// A piece of the answer without log-probabilities.
    #[must_use]
    pub const fn content(text: String) -> Self {
        Self::Content { text, logprobs: Vec::new() }
    }
}

/// How a choice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// OpenAI's `finish_reason`.
    pub reason: &'static str,
    /// What it took.
    pub usage: ChoiceUsage,
}

/// Tokens of a choice, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChoiceUsage {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Those of them that were in the key-value cache.
    pub cached: usize,
    /// Tokens generated.
    pub completion: usize,
    /// Those of them that are thoughts.
    pub reasoning: usize,
}

impl std::ops::AddAssign for ChoiceUsage {
    fn add_assign(&mut self, other: Self) {
        self.prompt += other.prompt;
        self.cached += other.cached;
        self.completion += other.completion;
        self.reasoning += other.reasoning;
    }
}

/// An id for a call: unique in this process by its counter, and between processes by its time.
pub(super) fn call_id() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    format!("call_{time:014x}{:06x}", COUNTER.fetch_add(1, Ordering::Relaxed) & 0xff_ffff)
}
