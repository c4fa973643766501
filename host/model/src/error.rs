//! What can go wrong between a path and a running model.
//!
//! Every message is one sentence that names the thing (tensor, metadata key, configuration field), what was found
//! and what was expected, so that it can be shown to a user as it stands.

use std::io;
use std::path::{Path, PathBuf};

use espalier_kernels::KernelError;

/// The error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The operating system refused to read or write `path`.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, an English verb phrase: "open", "write".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// An error inside the file `path`.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<ModelError>,
    },
    /// The path is neither a GGUF file nor an HF directory.
    #[error("{} is not a model: found {found}, expected a GGUF file or a directory with config.json", path.display())]
    UnknownFormat {
        /// The path as given.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// Bytes or a value that the format doesn't allow.
    #[error("{what}: found {found}, expected {expected}")]
    Malformed {
        /// The field, metadata key or tensor.
        what: String,
        /// What is there.
        found: String,
        /// What the format asks for.
        expected: String,
    },
    /// A valid value that this version doesn't implement.
    #[error("{what} {found} is not supported; supported: {supported}")]
    Unsupported {
        /// The kind of thing: "architecture", "tensor type of blk.0.ffn_up.weight".
        what: String,
        /// The value found.
        found: String,
        /// The values that work.
        supported: String,
    },
    /// A required metadata key or configuration field is absent.
    #[error("{what} is missing; expected {expected}")]
    Missing {
        /// The key or field.
        what: String,
        /// Its kind of value.
        expected: String,
    },
    /// The architecture needs a tensor that no file of the checkpoint holds.
    #[error("tensor {name} of shape {expected:?} is missing")]
    MissingTensor {
        /// HF name of the tensor.
        name: String,
        /// The shape that the configuration asks for.
        expected: Vec<usize>,
    },
    /// The configuration and a tensor contradict each other.
    #[error("tensor {name} has shape {found:?}, but the configuration asks for {expected:?}")]
    TensorShape {
        /// HF name of the tensor.
        name: String,
        /// The shape stored.
        found: Vec<usize>,
        /// The shape that follows from the configuration.
        expected: Vec<usize>,
    },
    /// A tensor of a layer norm holds NaN or an infinity: the file is damaged, and every logit would be NaN.
    #[error("tensor {name} holds {value} at index {index}, expected finite values")]
    NotFinite {
        /// HF name of the tensor.
        name: String,
        /// Flat index of the first such value.
        index: usize,
        /// The value.
        value: f32,
    },
    /// The tokenizer can't be built or refused its input.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The chat template doesn't compile, or stopped while rendering (`raise_exception` included).
    #[error("chat template: {0}")]
    ChatTemplate(String),
    /// A caller's argument contradicts the model.
    #[error("{what}: found {found}, expected {expected}")]
    Argument {
        /// The argument.
        what: String,
        /// What was passed.
        found: String,
        /// What the model takes.
        expected: String,
    },
    /// A kernel refused its operands.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl ModelError {
    /// An I/O error with its path.
    pub fn io(action: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { action, path: path.as_ref().to_owned(), source }
    }

    /// A malformed value.
    pub fn malformed(what: impl Into<String>, found: impl ToString, expected: impl Into<String>) -> Self {
        Self::Malformed { what: what.into(), found: found.to_string(), expected: expected.into() }
    }

    /// A value outside what is implemented.
    pub fn unsupported(what: impl Into<String>, found: impl ToString, supported: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into(), found: found.to_string(), supported: supported.into() }
    }

    /// An absent key or field.
    pub fn missing(what: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Missing { what: what.into(), expected: expected.into() }
    }

    /// A caller's argument that contradicts the model.
    pub fn argument(what: impl Into<String>, found: impl ToString, expected: impl Into<String>) -> Self {
        Self::Argument { what: what.into(), found: found.to_string(), expected: expected.into() }
    }

    /// The same error, placed in the file `path`. I/O errors carry their path already.
    #[must_use]
    pub fn in_file(self, path: &Path) -> Self {
        match self {
            error @ (Self::Io { .. } | Self::InFile { .. } | Self::UnknownFormat { .. }) => error,
            error => Self::InFile { path: path.to_owned(), source: Box::new(error) },
        }
    }
}
