//! What can go wrong between a caller and the engine.

use std::time::Duration;

use espalier_model::ModelError;

/// An engine error. Each message is one sentence that names the thing, what was found and what was expected.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A request parameter outside its range.
    #[error("{field} is {found}, expected {expected}")]
    InvalidParameter {
        /// The request field.
        field: &'static str,
        /// Its value.
        found: String,
        /// The accepted range in words.
        expected: &'static str,
    },
    /// A grammar that can't be compiled, or not within its limits.
    #[error("the grammar is refused: {reason}")]
    GrammarRefused {
        /// What is wrong with it.
        reason: String,
    },
    /// A vocabulary that texts can't be constrained with.
    #[error("the vocabulary can't be made a prefix tree: {reason}")]
    Vocabulary {
        /// What is wrong with it.
        reason: String,
    },
    /// A prompt that leaves no room for even one new token.
    #[error("the prompt has {found} tokens, expected fewer than {limit}, the context length of this model")]
    PromptTooLong {
        /// Tokens of the prompt.
        found: usize,
        /// The context length.
        limit: usize,
    },
    /// A prompt without tokens.
    #[error("the prompt has 0 tokens, expected at least 1")]
    EmptyPrompt,
    /// Admission control: the queue is full.
    #[error("the queue already holds {limit} waiting requests, which is its limit")]
    QueueFull {
        /// The queue's limit.
        limit: usize,
        /// About how long it takes until a request leaves, as measured lately.
        turnover: Option<Duration>,
    },
    /// The generation is being unloaded and takes no new requests.
    #[error("{generation} is draining and takes no new requests")]
    Draining {
        /// Which generation.
        generation: String,
    },
    /// The key-value budget cannot hold the requested context.
    #[error(
        "a context of {tokens} tokens takes {needed} bytes of key-value cache, expected at most {budget} bytes, the budget"
    )]
    CacheTooSmall {
        /// The context length asked for.
        tokens: usize,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that there are.
        budget: u64,
    },
    /// A draft whose tokens are not those of the model.
    #[error(
        "the draft has {found} tokens in its vocabulary, expected {expected} as in the model that it guesses for"
    )]
    DraftVocabulary {
        /// Tokens of the draft's vocabulary.
        found: usize,
        /// Tokens of the model's.
        expected: usize,
    },
    /// No model of that name is loaded.
    #[error("model '{found}' is not loaded, expected one of: {known}")]
    UnknownModel {
        /// The name asked for.
        found: String,
        /// The names that there are.
        known: String,
    },
    /// The model has no variant of that name.
    #[error("model '{model}' has no variant '{found}', expected one of: {known}")]
    UnknownVariant {
        /// The model.
        model: String,
        /// The variant asked for.
        found: String,
        /// The variants that there are.
        known: String,
    },
    /// A name that cannot be told apart in `model@variant`.
    #[error(
        "{what} '{found}' is not a valid name, expected 1 to 128 letters, digits, '.', '_', '-', '/' or ':'"
    )]
    InvalidName {
        /// Model or variant.
        what: &'static str,
        /// The name.
        found: String,
    },
    /// The checkpoint or the forward pass failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The engine's thread could not be started.
    #[error("the engine thread could not be started: {0}")]
    Thread(#[source] std::io::Error),
}

impl EngineError {
    /// A stable word for metrics and `error.type`-like fields.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::InvalidParameter { .. } => "invalid_parameter",
            Self::GrammarRefused { .. } => "grammar_refused",
            Self::Vocabulary { .. } => "vocabulary",
            Self::PromptTooLong { .. } => "context_length_exceeded",
            Self::EmptyPrompt => "empty_prompt",
            Self::QueueFull { .. } => "overloaded",
            Self::Draining { .. } => "draining",
            Self::CacheTooSmall { .. } => "cache_too_small",
            Self::DraftVocabulary { .. } => "draft_vocabulary",
            Self::UnknownModel { .. } => "model_not_found",
            Self::UnknownVariant { .. } => "variant_not_found",
            Self::InvalidName { .. } => "invalid_name",
            Self::Model(_) => "model_error",
            Self::Thread(_) => "thread_error",
        }
    }
}
