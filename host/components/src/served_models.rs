//! What an endpoint is given: the models that the host serves, as a client would use them.
//!
//! Whoever serves them implements [`ServedModels`]; this crate checks limits and hands pieces on. Nothing here blocks:
//! beginning may take its time, and an answer is polled.

use std::pin::Pin;
use std::task::{Context, Poll};

/// A loaded variant of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedVariant {
    /// The model's name.
    pub model: String,
    /// The variant's name.
    pub name: String,
    /// The most tokens that a prompt and its answer have together.
    pub context_length: usize,
    /// Whether it takes requests now.
    pub accepts: bool,
}

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Whoever wrote the application.
    System,
    /// Whoever uses it.
    User,
    /// The model.
    Assistant,
}

/// What a session answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionPrompt {
    /// A text to continue.
    Text(String),
    /// A conversation.
    Messages(Vec<(Role, String)>),
}

/// What an endpoint asks for. Nothing of it is checked yet.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionRequest {
    /// `MODEL` or `MODEL@VARIANT`.
    pub model: String,
    /// What is answered.
    pub prompt: SessionPrompt,
    /// The most tokens of the answer.
    pub max_tokens: u32,
    /// The divisor of the logits.
    pub temperature: Option<f32>,
    /// The same seed draws the same tokens.
    pub seed: Option<u64>,
}

/// Why a session did not begin, each with one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionRefusal {
    /// No such model or variant is loaded.
    UnknownModel(String),
    /// The request has something that is not taken.
    Invalid(String),
    /// There is no room now.
    Busy(String),
    /// The host failed.
    Failed(String),
}

/// What comes next in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerStep {
    /// More of the answer.
    Text(String),
    /// More of what the model thinks.
    Reasoning(String),
    /// The end; nothing follows.
    Finished(AnswerEnd),
    /// The host could not go on; nothing follows.
    Failed(String),
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerEnd {
    /// Whether it was cut at the most tokens that it may have; the model ended it otherwise.
    pub cut: bool,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens generated.
    pub tokens: usize,
}

/// An answer that is being generated. Dropping it cancels it.
pub trait Answer: Send {
    /// The address of the variant that answers.
    fn answering(&self) -> &str;

    /// What comes next. Not asked after the end.
    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<AnswerStep>;
}

/// A session that is about to begin.
pub type Beginning = Pin<Box<dyn Future<Output = Result<Box<dyn Answer>, SessionRefusal>> + Send>>;

/// The models of a host.
pub trait ServedModels: Send + Sync {
    /// Every loaded variant.
    fn variants(&self) -> Vec<ServedVariant>;

    /// Begins a session. Dropping what it returns cancels it.
    fn begin(&self, request: SessionRequest) -> Beginning;
}
