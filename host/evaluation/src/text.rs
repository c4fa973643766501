//! The evaluation text: the tokens of the data, and how many bytes each of them stands for.

use std::ops::Range;

use espalier_model::{EncodeOptions, Tokenizer};
use espalier_state::Digest;
use serde::{Deserialize, Serialize};

use crate::data::EvaluationData;
use crate::error::EvaluationError;

/// As llama.cpp reads a text: the tokenizer's own additions, but no special tokens spelled in the text.
pub(crate) const ENCODING: EncodeOptions = EncodeOptions { parse_special: false, add_special: true };

/// A tokenised text.
#[derive(Clone, Debug)]
pub struct EvaluationText {
    tokens: Vec<u32>,
    /// `byte_ends[i]` is the number of bytes that tokens `0..=i` stand for.
    byte_ends: Vec<u64>,
    record: TextRecord,
}

/// What was measured on, by content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextRecord {
    /// The file's name without its directory.
    pub name: String,
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    /// Samples; 0 for plain text.
    #[serde(default)]
    pub samples: usize,
    /// Tokens of text used.
    pub tokens: usize,
    /// Bytes of text that those tokens stand for.
    pub bytes: u64,
    /// Whether the text has more tokens than were used.
    pub truncated: bool,
}

impl EvaluationText {
    /// Tokenises the text of `data`, with a leading beginning-of-sequence token where the model's tokenizer adds one, and
    /// keeps the first `max_tokens` tokens.
    ///
    /// # Errors
    /// Plain text of fewer than two tokens.
    pub fn tokenise(
        data: &EvaluationData,
        tokenizer: &Tokenizer,
        max_tokens: Option<usize>,
    ) -> Result<Self, EvaluationError> {
        let mut tokens = tokenizer.encode_with(&data.text, ENCODING)?;
        let limit = max_tokens.unwrap_or(usize::MAX);
        let truncated = tokens.len() > limit;
        tokens.truncate(limit);
        if tokens.len() < 2 && data.samples.is_empty() {
            return Err(EvaluationError::TooShort { path: data.path.clone(), found: tokens.len() });
        }
        let byte_ends: Vec<u64> = tokens
            .iter()
            .scan(0, |end, &token| {
                if !tokenizer.is_special(token) {
                    *end += tokenizer.token_bytes(token).map_or(0, |bytes| bytes.len() as u64);
                }
                Some(*end)
            })
            .collect();
        let record = TextRecord {
            name: data.path.file_name().unwrap_or(data.path.as_os_str()).to_string_lossy().into_owned(),
            sha256: data.sha256,
            samples: data.samples.len(),
            tokens: tokens.len(),
            bytes: byte_ends.last().copied().unwrap_or(0),
            truncated,
        };
        Ok(Self { tokens, byte_ends, record })
    }

    /// The tokens.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Bytes of text that a range of tokens stands for; special tokens stand for none.
    #[must_use]
    pub fn byte_count(&self, range: Range<usize>) -> u64 {
        let end_of = |tokens: usize| {
            tokens.checked_sub(1).and_then(|last| self.byte_ends.get(last)).copied().unwrap_or(0)
        };
        end_of(range.end.min(self.byte_ends.len())).saturating_sub(end_of(range.start))
    }

    /// What it is.
    #[must_use]
    pub const fn record(&self) -> &TextRecord {
        &self.record
    }
}
