//! Everything that can go wrong between a configuration and a trained model.

use std::io;
use std::path::PathBuf;

use espalier_kernels::KernelError;
use espalier_model::ModelError;

/// The error of this crate. Each message is one sentence that names the thing, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainingError {
    /// A field of a configuration.
    #[error("{place}: {field}: found {found}, expected {expected}")]
    Configuration {
        /// The file, and the line where it is known: `train.toml, line 7`.
        place: String,
        /// The field with its table: `optimizer.learning_rate`.
        field: String,
        /// What it holds.
        found: String,
        /// What it may hold.
        expected: String,
    },
    /// A configuration that is no TOML of the right form.
    #[error("{place}: {message}")]
    ConfigurationText {
        /// The file, and the line where it is known.
        place: String,
        /// What the reader says.
        message: String,
    },
    /// A caller's argument that contradicts the model.
    #[error("{what}: found {found}, expected {expected}")]
    Argument {
        /// The argument.
        what: String,
        /// What was passed.
        found: String,
        /// What fits.
        expected: String,
    },
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried, an English verb phrase.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The loss or a gradient is no number any more.
    #[error(
        "{what} is {found} in step {step}, expected a finite number; {}, and a lower optimizer.learning_rate or \
         optimizer.clip_norm usually helps",
        kept_text(*kept)
    )]
    NotFinite {
        /// The loss, or the gradients' norm.
        what: &'static str,
        /// Its value.
        found: f64,
        /// The step, counted from 1.
        step: u64,
        /// The last step whose checkpoint is on disk; 0 if there is none.
        kept: u64,
    },
    /// A run's checkpoint that belongs to another configuration, model or text.
    #[error("{} is the checkpoint of another run: found {found}, expected {expected}; give --out a new directory", path.display())]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What this run has.
        expected: String,
    },
    /// Somebody asked it to stop.
    #[error("training was stopped after step {step}; the same command goes on from the last checkpoint")]
    Cancelled {
        /// Steps done.
        step: u64,
    },
    /// The model's files.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A kernel refused its operands.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The tensor library refused an operation.
    #[error("tensor operation: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The tokenizer's training failed.
    #[error("training a tokenizer: {0}")]
    Tokenizer(String),
}

fn kept_text(kept: u64) -> String {
    match kept {
        0 => "there was no checkpoint yet".to_owned(),
        kept => format!("the checkpoint of step {kept} is kept"),
    }
}

impl TrainingError {
    /// A caller's argument that contradicts the model.
    pub fn argument(what: impl Into<String>, found: impl ToString, expected: impl Into<String>) -> Self {
        Self::Argument { what: what.into(), found: found.to_string(), expected: expected.into() }
    }

    /// For `map_err` of I/O on `path`.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
