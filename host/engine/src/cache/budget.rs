//! How the bytes of the key-value cache are split between the two kinds of blocks. The rule is stated here and nowhere
//! else.
//!
//! Windowed layers get twice the blocks that running sequences can use at once (each its window, and all together one
//! step), so that as much again stays cached; but no more than half of the budget. The other layers get the rest. A
//! sequence as long as can be must fit when it is alone, taking its tokens one by one if need be.

use espalier_kernels::CacheSize;
use espalier_model::{Model, ModelError, SequenceSize};

use crate::config::{BLOCK_TOKENS, EngineConfig};
use crate::error::EngineError;

/// The budget, in blocks of a model.
pub(crate) struct CacheBudget<'a> {
    config: &'a EngineConfig,
    model: &'a Model,
    /// Bytes of a block over all layers that see every token, and over all windowed ones.
    block_bytes: u64,
    window_bytes: u64,
}

impl<'a> CacheBudget<'a> {
    /// # Errors
    /// A format that the model's device doesn't store.
    pub(crate) fn new(config: &'a EngineConfig, model: &'a Model) -> Result<Self, EngineError> {
        let bytes = |windowed| {
            let bytes = model.cache_block_bytes(windowed, BLOCK_TOKENS, config.kv_format);
            bytes.map_or_else(|error| Err(ModelError::from(error)), |bytes| Ok(bytes as u64))
        };
        Ok(Self { config, model, block_bytes: bytes(false)?, window_bytes: bytes(true)? })
    }

    /// Bytes of one token's keys and values over all layers.
    pub(crate) fn token_bytes(&self) -> u64 {
        (self.block_bytes + self.window_bytes) / BLOCK_TOKENS as u64
    }

    /// The longest sequence that the budget pays for, in tokens, as far as the model goes.
    pub(crate) fn longest(&self) -> usize {
        let most = self.model.spec().max_positions;
        let left = self.config.kv_bytes.saturating_sub(self.window_bytes_of_one(most));
        let affordable = left.checked_div(self.block_bytes).map_or(usize::MAX, saturated);
        most.min(affordable.saturating_mul(BLOCK_TOKENS))
    }

    /// The blocks of each kind, for sequences of up to `tokens` tokens.
    ///
    /// # Errors
    /// One such sequence alone exceeds the budget.
    pub(crate) fn split(&self, tokens: usize) -> Result<CacheSize, EngineError> {
        let budget = self.config.kv_bytes;
        let least = tokens.div_ceil(BLOCK_TOKENS) as u64 * self.block_bytes;
        let needed = least.saturating_add(self.window_bytes_of_one(tokens));
        if needed > budget {
            return Err(EngineError::CacheTooSmall { tokens, needed, budget });
        }
        let (sequences, one) = (self.config.max_sequences.max(1), self.window_blocks_of_one(tokens));
        let at_once = sequences * one + self.config.max_step_tokens.div_ceil(BLOCK_TOKENS);
        let half = (budget / 2).checked_div(self.window_bytes).map_or(0, saturated);
        let beside = (budget - least).checked_div(self.window_bytes).map_or(0, saturated);
        let window_blocks = (2 * at_once).min(half).max(one).min(beside);
        let left = budget - window_blocks as u64 * self.window_bytes;
        // Where every layer is windowed the other blocks are mere numbers.
        let numbers = 2 * sequences * tokens.div_ceil(BLOCK_TOKENS);
        let blocks = left.checked_div(self.block_bytes).map_or(numbers, saturated);
        Ok(CacheSize {
            blocks: blocks.min(u32::MAX as usize),
            window_blocks: window_blocks.min(u32::MAX as usize),
            block_tokens: BLOCK_TOKENS,
            format: self.config.kv_format,
        })
    }

    fn window_blocks_of_one(&self, tokens: usize) -> usize {
        self.model.window_blocks(SequenceSize { tokens, step_tokens: 1, block_tokens: BLOCK_TOKENS })
    }

    fn window_bytes_of_one(&self, tokens: usize) -> u64 {
        self.window_blocks_of_one(tokens) as u64 * self.window_bytes
    }
}

fn saturated(blocks: u64) -> usize {
    usize::try_from(blocks).unwrap_or(usize::MAX)
}
