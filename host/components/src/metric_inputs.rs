//! What an evaluation metric is given: a model to score with and to generate with, data, a baseline; and what it answers.
//!
//! The traits are here because what they do costs forward passes and must not happen before a guest asks for it. The host
//! checks every argument that comes from a guest before it gets to them. An error of theirs (a failed forward pass, a
//! cancelled job) ends the evaluation and comes back from it as the source of
//! [`ComponentError::Input`](crate::ComponentError::Input).

use std::error::Error;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use espalier_kernels::Tensor;
use serde::{Deserialize, Serialize};

use crate::ModelFacts;

/// Why an input of a metric failed, in the words of whoever implements it.
pub type InputError = Box<dyn Error + Send + Sync>;

/// All that a metric measures.
#[derive(Clone)]
pub struct MetricInputs {
    /// The model's shape.
    pub facts: Arc<ModelFacts>,
    /// The model and the evaluation text.
    pub scorer: Arc<dyn TextScorer>,
    /// The samples of the data, if it has any.
    pub samples: Arc<[Sample]>,
    /// The model as a writer.
    pub generator: Arc<dyn Generator>,
    /// The model beside its baseline; none where there is no baseline.
    pub baseline: Option<Arc<dyn Baseline>>,
}

/// A model with an evaluation text.
pub trait TextScorer: Send + Sync {
    /// The evaluation text's tokens.
    fn tokens(&self) -> &[u32];

    /// How many bytes of text these tokens of the evaluation text stand for. The range lies inside the text.
    fn byte_count(&self, tokens: Range<usize>) -> u64;

    /// The beginning-of-sequence token, if the tokenizer puts one before a text.
    fn beginning_of_sequence(&self) -> Option<u32>;

    /// The longest window, in tokens, that can be scored.
    fn max_window(&self) -> usize;

    /// The natural logarithm of the probability of each token of `window[score_from..]` given all before it:
    /// `window.len() - score_from` values, `1 <= score_from <= window.len() <= max_window`.
    fn log_probabilities(&self, window: &[u32], score_from: usize) -> Result<Vec<f32>, InputError>;

    /// The hidden states behind the first `layers` decoder layers, `[window.len(), hidden_size]`:
    /// `1 <= window.len() <= max_window`, and the model has so many layers.
    fn hidden_states(&self, window: &[u32], layers: usize) -> Result<Tensor, InputError>;
}

/// One sample of the evaluation data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// What the model is given to continue.
    pub prompt: String,
    /// The answers that are right, at least one.
    pub references: Vec<String>,
    /// The answer to measure in place of the model's, where the data gives one.
    pub candidate: Option<String>,
}

/// A model that writes.
pub trait Generator: Send + Sync {
    /// The tokens of a text as the evaluation text is tokenised.
    fn encode(&self, text: &str) -> Result<Vec<u32>, InputError>;

    /// The most tokens that a prompt and its continuation have together.
    fn context_length(&self) -> Result<usize, InputError>;

    /// Begins to continue `prompt`, which has a token at least and leaves room for one in the context.
    fn begin(&self, prompt: &[u32], sampling: &Sampling) -> Result<Box<dyn TokenStream>, InputError>;

    /// The model's answer to the sample at `index`, which has no candidate. The same every time.
    fn answer(&self, index: usize) -> Result<String, InputError>;

    /// How long that answer took, where the model gave it.
    fn answer_timing(&self, index: usize) -> Result<Option<GenerationTiming>, InputError>;
}

/// How a continuation is drawn. All numbers are inside their ranges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// The most tokens to generate, at least 1.
    pub max_tokens: usize,
    /// The divisor of the logits, 0 to 2; 0 takes the most probable token every time.
    pub temperature: f32,
    /// The probability mass that is kept, above 0 and at most 1.
    pub top_p: f32,
    /// How many of the most probable tokens are kept; 0 keeps all.
    pub top_k: usize,
    /// The same seed draws the same tokens.
    pub seed: u64,
    /// Whether the log-probabilities of the tokens are wanted.
    pub log_probabilities: bool,
}

/// A continuation that is being generated. Dropping it cancels it.
pub trait TokenStream: Send {
    /// Waits for what comes next; the end again after the end.
    fn next(&mut self) -> Result<StreamStep, InputError>;

    /// How long it took; none before the end.
    fn timing(&self) -> Option<GenerationTiming>;
}

/// How long a model took to generate something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerationTiming {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens generated, the end token included.
    pub tokens: usize,
    /// When it was asked for, counted from a moment that is the same for all that a [`Generator`] generates.
    pub begun: Duration,
    /// From then to the first token.
    pub first_token: Duration,
    /// From then to the end.
    pub total: Duration,
}

/// What comes next in a [`TokenStream`].
#[derive(Clone, Debug, PartialEq)]
pub enum StreamStep {
    /// More of it.
    Piece {
        /// Whole characters, or nothing yet.
        text: String,
        /// The tokens.
        tokens: Vec<u32>,
        /// The natural logarithm of the probability of each of them, if that is wanted.
        log_probabilities: Vec<f32>,
    },
    /// The model ended it.
    Stopped,
    /// It has as many tokens as it may have.
    ReachedLength,
}

/// A model beside the one that it is compared with.
pub trait Baseline: Send + Sync {
    /// What the two say of each token of `window[score_from..]` given all before it:
    /// `window.len() - score_from` values, `1 <= score_from <= window.len() <= max_window`.
    fn compare(&self, window: &[u32], score_from: usize) -> Result<Vec<TokenComparison>, InputError>;
}

/// What a model and its baseline say of one token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenComparison {
    /// The Kullback-Leibler divergence of the model's distribution from the baseline's, in nats.
    pub divergence: f64,
    /// Whether both have the same most probable token.
    pub same_top: bool,
    /// The natural logarithm of the probability that the baseline gives to the token.
    pub baseline_log_probability: f32,
    /// The same of the model.
    pub log_probability: f32,
}

/// What a metric found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricReport {
    /// The figures.
    pub measurements: Vec<Measurement>,
    /// What it says of them, a sentence each, without line breaks.
    pub notes: Vec<String>,
}

/// One figure that a metric measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// What it is, for example `perplexity.stride`.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Its standard error, where the metric has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub standard_error: Option<f64>,
}
