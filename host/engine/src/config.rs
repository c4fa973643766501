//! The limits of an engine, and what they come to for a given model.

use espalier_kernels::Precision;
use espalier_model::Model;

use crate::error::EngineError;

/// Positions per cache block. Small enough that a short request wastes little, large enough that attention runs over
/// long contiguous rows.
pub(crate) const BLOCK_TOKENS: usize = 32;

/// Limits that the operator chooses.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Sequences that may be in one batch.
    pub max_sequences: usize,
    /// Tokens of one step, prefill and decode together.
    pub max_step_tokens: usize,
    /// Bytes of key-value cache.
    pub kv_bytes: u64,
    /// Longest prompt plus completion; the model's own context length, as far as the budget allows it, where `None`.
    pub max_model_len: Option<usize>,
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
            max_model_len: None,
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
    pub(crate) max_model_len: usize,
    pub(crate) queue_limit: usize,
    pub(crate) blocks: usize,
    pub(crate) precision: Precision,
}

impl EngineConfig {
    /// Fits the limits to `model`.
    ///
    /// # Errors
    /// A context that was asked for by number and that the model or the budget cannot hold.
    pub(crate) fn limits(&self, model: &Model) -> Result<Limits, EngineError> {
        let block_bytes = model.cache_bytes_per_token() * BLOCK_TOKENS as u64;
        let affordable = (self.kv_bytes / block_bytes.max(1)) as usize;
        let max_positions = model.spec().max_positions;
        let wanted = self.max_model_len.unwrap_or(max_positions.min(affordable * BLOCK_TOKENS)).max(1);
        if wanted > max_positions {
            return Err(EngineError::InvalidParameter {
                field: "max_model_len",
                found: wanted.to_string(),
                expected: "at most the model's own context length",
            });
        }
        let needed = wanted.div_ceil(BLOCK_TOKENS);
        if needed > affordable {
            return Err(EngineError::CacheTooSmall {
                tokens: wanted,
                needed: needed as u64 * block_bytes,
                budget: self.kv_bytes,
            });
        }
        let max_sequences = self.max_sequences.max(1);
        Ok(Limits {
            max_sequences,
            max_step_tokens: self.max_step_tokens.max(max_sequences),
            max_model_len: wanted,
            queue_limit: self.queue_limit,
            blocks: affordable.min(max_sequences * needed),
            precision: self.precision,
        })
    }
}
