//! The evaluation data: a file of plain text, or of samples in JSONL.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use espalier_components::Sample;
use espalier_state::Digest;

use crate::error::EvaluationError;
use crate::samples::parse_samples;

/// What the text of a sample is parted by from the next.
const SEPARATOR: &str = "\n\n";

/// A file that was read and checked.
#[derive(Clone, Debug)]
pub struct EvaluationData {
    pub(crate) path: PathBuf,
    pub(crate) sha256: Digest,
    pub(crate) text: String,
    pub(crate) samples: Arc<[Sample]>,
}

impl EvaluationData {
    /// Reads `path`. A name that ends in `.jsonl` holds one sample a line, an object with `prompt`, `reference` (a text or
    /// a list of them) and optionally `candidate`; any other is plain text. The text of samples is each one's prompt with
    /// its first reference, blank lines between them.
    ///
    /// # Errors
    /// A file that cannot be read or is not UTF-8, or a line that is no sample.
    pub fn read(path: &Path) -> Result<Self, EvaluationError> {
        let bytes = fs::read(path).map_err(EvaluationError::file("read", path))?;
        let sha256 = Digest::of(&bytes);
        let text = String::from_utf8(bytes).map_err(|error| EvaluationError::NotText {
            path: path.to_owned(),
            offset: error.utf8_error().valid_up_to(),
        })?;
        let path = path.to_owned();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            return Ok(Self { path, sha256, text, samples: Arc::default() });
        }
        let samples = parse_samples(&path, &text)?;
        let texts: Vec<String> = samples
            .iter()
            .map(|sample| {
                [sample.prompt.as_str(), sample.references.first().map_or("", String::as_str)].concat()
            })
            .collect();
        Ok(Self { path, sha256, text: texts.join(SEPARATOR), samples: samples.into() })
    }

    /// The text: the file's own, or that of the samples.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The samples; none where the data is plain text.
    #[must_use]
    pub const fn samples(&self) -> &Arc<[Sample]> {
        &self.samples
    }

    /// Whether the model has to answer samples, because the data has no candidate for them.
    #[must_use]
    pub fn has_questions(&self) -> bool {
        self.samples.iter().any(|sample| sample.candidate.is_none())
    }
}
