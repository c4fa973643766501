//! The limits of an engine, and what they come to for a given model.

use espalier_kernels::{CacheFormat, CacheSize, KeyValueStore, Precision};
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
    /// Format of the cached keys and values.
    pub kv_format: CacheFormat,
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
            kv_format: CacheFormat::default(),
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
    pub(crate) cache: CacheSize,
    /// Windowed blocks of a sequence that is as long as can be.
    pub(crate) ring: usize,
    pub(crate) precision: Precision,
}

impl EngineConfig {
    /// Fits the limits to `model`.
    ///
    /// # Errors
    /// A context that was asked for by number and that the model or the budget cannot hold.
    pub(crate) fn limits(&self, model: &Model) -> Result<Limits, EngineError> {
        let layers = model.cache_layers();
        let bytes =
            |windowed| KeyValueStore::block_bytes(&layers, windowed, BLOCK_TOKENS, self.kv_format) as u64;
        let (block_bytes, window_bytes) = (bytes(false), bytes(true));
        let max_positions = model.spec().max_positions;
        // What one sequence takes beside the blocks that grow with it.
        let ring_bytes = |tokens| model.window_blocks(tokens, BLOCK_TOKENS) as u64 * window_bytes;
        let affordable = self.kv_bytes.saturating_sub(ring_bytes(max_positions)) / block_bytes.max(1);
        let affordable = usize::try_from(affordable).unwrap_or(usize::MAX).saturating_mul(BLOCK_TOKENS);
        let wanted = self.max_model_len.unwrap_or(max_positions.min(affordable)).max(1);
        if wanted > max_positions {
            return Err(EngineError::InvalidParameter {
                field: "max_model_len",
                found: wanted.to_string(),
                expected: "at most the model's own context length",
            });
        }
        let (needed, ring) = (wanted.div_ceil(BLOCK_TOKENS), model.window_blocks(wanted, BLOCK_TOKENS));
        let longest = needed as u64 * block_bytes + ring_bytes(wanted);
        if longest > self.kv_bytes {
            return Err(EngineError::CacheTooSmall {
                tokens: wanted,
                needed: longest,
                budget: self.kv_bytes,
            });
        }
        // Windowed blocks for as many sequences as half the budget pays for, at least one; the rest goes to the others.
        let rings = (self.kv_bytes / 2).checked_div(ring_bytes(wanted));
        let rings = rings.map_or(usize::MAX, |rings| usize::try_from(rings).unwrap_or(usize::MAX).max(1));
        let max_sequences = self.max_sequences.max(1).min(rings);
        let left = self.kv_bytes - max_sequences as u64 * ring_bytes(wanted);
        let (max_sequences, left) = if left < needed as u64 * block_bytes {
            (1, self.kv_bytes - ring_bytes(wanted))
        } else {
            (max_sequences, left)
        };
        let blocks = usize::try_from(left / block_bytes.max(1)).unwrap_or(usize::MAX);
        Ok(Limits {
            max_sequences,
            max_step_tokens: self.max_step_tokens.max(max_sequences),
            max_model_len: wanted,
            queue_limit: self.queue_limit,
            cache: CacheSize {
                blocks: blocks.min(max_sequences * needed),
                window_blocks: max_sequences * ring,
                block_tokens: BLOCK_TOKENS,
                format: self.kv_format,
            },
            ring,
            precision: self.precision,
        })
    }
}
