//! What can go wrong while a model is measured.

use std::path::{Path, PathBuf};

use espalier_components::ComponentError;
use espalier_engine::EngineError;
use espalier_model::ModelError;

/// An error of the evaluation crate. Each message is one sentence that names the thing, what was found and what was
/// expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluationError {
    /// A file that could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// `read`, `write`, ….
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// An evaluation text that is not UTF-8.
    #[error("{} is not UTF-8 text (byte {offset}); expected plain text to evaluate on", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Where decoding failed.
        offset: usize,
    },
    /// A line of JSONL that is no sample.
    #[error("{}, line {line}: {problem}", path.display())]
    Sample {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What was found in which field, and what was expected.
        problem: String,
    },
    /// A file of samples without any.
    #[error("{} holds no sample; expected at least one line", path.display())]
    NoSamples {
        /// The file.
        path: PathBuf,
    },
    /// A sample whose prompt the model cannot continue.
    #[error("sample {sample} cannot be answered: {source}")]
    Unanswerable {
        /// The sample, counted from 1.
        sample: usize,
        /// Why.
        source: Box<Self>,
    },
    /// A continuation that ended before its time.
    #[error("{name} could not go on to generate: {reason}")]
    Generation {
        /// The model.
        name: String,
        /// Why.
        reason: String,
    },
    /// A text without tokens.
    #[error("{} holds {found} tokens; expected at least 2, one to predict another from", path.display())]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Its tokens.
        found: usize,
    },
    /// Two models that do not share a vocabulary cannot be compared token by token.
    #[error(
        "{name} has a vocabulary of {found} tokens and the baseline one of {expected}; agreement needs the same vocabulary"
    )]
    Vocabulary {
        /// The model.
        name: String,
        /// Its vocabulary.
        found: usize,
        /// The baseline's vocabulary.
        expected: usize,
    },
    /// A model that answered with NaN or an infinity.
    #[error(
        "the logits of {name} at position {position} are not finite; the weights are damaged or overflow"
    )]
    NotFinite {
        /// The model.
        name: String,
        /// The position in the window.
        position: usize,
    },
    /// The context is too short for a measurement.
    #[error("{name} has a context of {found} tokens; expected at least {expected} for the measurement")]
    ContextTooShort {
        /// The model.
        name: String,
        /// Its context.
        found: usize,
        /// Tokens that the measurement takes.
        expected: usize,
    },
    /// Nothing was named to be measured.
    #[error("no model was named; expected at least one to measure")]
    NoSubject,
    /// A metric's thread ended by a panic of the host.
    #[error("the host failed while it ran the metric {metric}")]
    Panicked {
        /// The metric, as `name@version`.
        metric: String,
    },
    /// The work was cancelled by its owner.
    #[error("cancelled")]
    Cancelled,
    /// The model crate refused.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A metric component failed.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// A report that could not be written as JSON.
    #[error("the report cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl EvaluationError {
    /// An [`EvaluationError::File`] from an I/O error.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}
