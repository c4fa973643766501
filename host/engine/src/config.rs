//! The limits of an engine, and what they come to for a given model.

use espalier_kernels::{CacheFormat, CacheSize, Precision};
use espalier_model::Model;

use crate::cache::budget::CacheBudget;
use crate::error::EngineError;

/// Positions per cache block. Small enough that a short request wastes little, large enough that attention runs over
/// long contiguous rows.
pub(crate) const BLOCK_TOKENS: usize = 32;

/// How many tokens a draft guesses where nothing else is said.
pub const DRAFT_TOKENS: usize = 5;

/// Prompt tokens of a step in which others decode: for so long each of them waits for its next token. More would give
/// somewhat more throughput, since every step reads all weights, and a stutter whenever a prompt arrives.
const PROMPT_TOKENS_BESIDE_DECODING: usize = 32;

/// Limits that the operator chooses.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Sequences that may be in one batch.
    pub max_sequences: usize,
    /// Tokens of one step, prefill and decode together.
    pub max_step_tokens: usize,
    /// Bytes of key-value cache.
    pub kv_bytes: u64,
    /// Format of the cached keys and values.
    pub kv_format: CacheFormat,
    /// Longest prompt plus completion; the model's own context length, as far as the budget allows it, where `None`.
    pub max_model_len: Option<usize>,
    /// Whether what is computed of a text is kept for others that begin like it.
    pub prefix_cache: bool,
    /// Tokens that may be guessed ahead for a sequence in a step; 0 guesses none, unless there is a draft: then it is
    /// [`DRAFT_TOKENS`].
    pub speculative_tokens: usize,
    /// Requests that may wait beyond the ones that run.
    pub queue_limit: usize,
    /// Arithmetic of the matrix products.
    pub precision: Precision,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_sequences: 16,
            max_step_tokens: 512,
            kv_bytes: 1 << 30,
            kv_format: CacheFormat::default(),
            max_model_len: None,
            prefix_cache: true,
            speculative_tokens: 0,
            queue_limit: 256,
            precision: Precision::Fast,
        }
    }
}

/// The limits after they were fitted to a model.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) max_sequences: usize,
    pub(crate) max_step_tokens: usize,
    pub(crate) prompt_tokens_beside_decoding: usize,
    pub(crate) max_model_len: usize,
    pub(crate) queue_limit: usize,
    pub(crate) cache: CacheSize,
    /// The model's widest sliding window.
    pub(crate) window: Option<usize>,
    pub(crate) prefix_cache: bool,
    pub(crate) speculative_tokens: usize,
    pub(crate) precision: Precision,
}

#[cfg(test)]
impl Limits {
    /// So many blocks of each kind, for sequences of any length.
    pub(crate) fn of_blocks(blocks: usize, window_blocks: usize, window: Option<usize>) -> Self {
        let format = CacheFormat::default();
        Self {
            max_sequences: 8,
            max_step_tokens: 64,
            prompt_tokens_beside_decoding: usize::MAX,
            max_model_len: usize::MAX,
            queue_limit: usize::MAX,
            cache: CacheSize { blocks, window_blocks, block_tokens: BLOCK_TOKENS, format },
            window,
            prefix_cache: true,
            speculative_tokens: 0,
            precision: Precision::Exact,
        }
    }
}

impl EngineConfig {
    /// Fits the limits to `model`.
    ///
    /// # Errors
    /// A context that was asked for by number and that the model or the budget cannot hold.
    pub(crate) fn limits(&self, model: &Model) -> Result<Limits, EngineError> {
        let budget = CacheBudget::new(self, model)?;
        let max_positions = model.spec().max_positions;
        let wanted = self.max_model_len.unwrap_or_else(|| budget.longest()).max(1);
        if wanted > max_positions {
            return Err(EngineError::InvalidParameter {
                field: "max_model_len",
                found: wanted.to_string(),
                expected: "at most the model's own context length",
            });
        }
        let max_sequences = self.max_sequences.max(1);
        Ok(Limits {
            max_sequences,
            max_step_tokens: self.max_step_tokens.max(max_sequences),
            prompt_tokens_beside_decoding: PROMPT_TOKENS_BESIDE_DECODING,
            max_model_len: wanted,
            queue_limit: self.queue_limit,
            cache: budget.split(wanted)?,
            window: model.sliding_window(),
            prefix_cache: self.prefix_cache,
            speculative_tokens: self.speculative_tokens,
            precision: self.precision,
        })
    }

    /// The same, where a draft with a cache of its own shares the budget: both caches hold as many tokens.
    ///
    /// # Errors
    /// As [`Self::limits`]; a draft with another vocabulary.
    pub(crate) fn limits_with_draft(
        &self,
        model: &Model,
        draft: Option<&Model>,
    ) -> Result<(Limits, Option<Limits>), EngineError> {
        let Some(draft) = draft else {
            return Ok((self.limits(model)?, None));
        };
        let (found, wanted) = (draft.spec().vocab_size, model.spec().vocab_size);
        if found != wanted {
            return Err(EngineError::DraftVocabulary { found, expected: wanted });
        }
        let model_bytes = CacheBudget::new(self, model)?.token_bytes();
        let draft_bytes = CacheBudget::new(self, draft)?.token_bytes();
        let share = u128::from(self.kv_bytes) * u128::from(draft_bytes)
            / u128::from(model_bytes + draft_bytes).max(1);
        let share = u64::try_from(share).unwrap_or(self.kv_bytes);
        let speculative_tokens =
            if self.speculative_tokens == 0 { DRAFT_TOKENS } else { self.speculative_tokens };
        let of_model = Self { kv_bytes: self.kv_bytes - share, speculative_tokens, ..self.clone() };
        let limits = of_model.limits(model)?;
        let draft_limits = Self { kv_bytes: share, max_model_len: None, ..self.clone() }.limits(draft)?;
        Ok((limits, Some(draft_limits)))
    }
}
