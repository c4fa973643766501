//! The cache blocks of one sequence, and how many a model's sequences need.
//!
//! Layers that see every token need a block for each stretch of a sequence. Layers with a sliding window need a few
//! blocks, used in turn: when a block's tokens have left the window of every query to come, its place is written anew.

use espalier_kernels::{CacheFormat, CacheLayer, CacheSize, KeyValueStore, SequenceSpan};

use crate::error::ModelError;
use crate::forward::WINDOW_CHUNK;
use crate::model::Model;

/// Where one sequence's keys and values lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SequenceBlocks {
    blocks: Vec<u32>,
    window_blocks: Vec<u32>,
}

impl SequenceBlocks {
    /// A sequence that may grow over `blocks`, with `ring` for the windowed layers, [`Model::window_blocks`] of them.
    #[must_use]
    pub fn new(blocks: Vec<u32>, ring: &[u32]) -> Self {
        let window_blocks = ring.iter().copied().cycle().take(blocks.len()).collect();
        Self { blocks, window_blocks }
    }

    /// Gives back the blocks of the layers that see every token; the sequence has none after that.
    pub fn take_blocks(&mut self) -> Vec<u32> {
        self.window_blocks.clear();
        std::mem::take(&mut self.blocks)
    }

    /// Tokens of the sequence from `first_position` on, for a batch.
    #[must_use]
    pub fn span(&self, first_position: usize, queries: usize) -> SequenceSpan<'_> {
        SequenceSpan { blocks: &self.blocks, window_blocks: &self.window_blocks, first_position, queries }
    }
}

impl Model {
    /// What each layer caches.
    #[must_use]
    pub fn cache_layers(&self) -> Vec<CacheLayer> {
        let head_dim = self.spec.head_dim;
        let layers = self.spec.layers.iter();
        layers
            .map(|layer| CacheLayer {
                kv_heads: layer.kv_heads,
                head_dim,
                windowed: layer.sliding_window.is_some(),
            })
            .collect()
    }

    /// Blocks that a sequence of up to `tokens` tokens needs in the windowed layers; 0 where the model has none.
    ///
    /// While a chunk is computed, its own tokens and those in the window of its first query are live; in blocks, at
    /// most one more than they fill.
    #[must_use]
    pub fn window_blocks(&self, tokens: usize, block_tokens: usize) -> usize {
        let windows = self.spec.layers.iter().filter_map(|layer| layer.sliding_window);
        let block_tokens = block_tokens.max(1);
        windows.max().map_or(0, |window| {
            let live = window.saturating_add(WINDOW_CHUNK - 1);
            ((live - 1).div_ceil(block_tokens) + 1).min(tokens.div_ceil(block_tokens))
        })
    }

    /// A key-value store for this model.
    ///
    /// # Errors
    /// A size that cannot be allocated.
    pub fn new_cache(&self, size: CacheSize) -> Result<KeyValueStore, ModelError> {
        Ok(KeyValueStore::new(&self.cache_layers(), size)?)
    }

    /// A store for `sequences` sequences of up to `tokens` tokens each, and their blocks.
    ///
    /// # Errors
    /// A size that cannot be allocated.
    pub fn cache_for(
        &self,
        sequences: usize,
        tokens: usize,
        block_tokens: usize,
        format: CacheFormat,
    ) -> Result<(KeyValueStore, Vec<SequenceBlocks>), ModelError> {
        let each = tokens.div_ceil(block_tokens.max(1));
        let ring = self.window_blocks(tokens, block_tokens);
        let size =
            CacheSize { blocks: sequences * each, window_blocks: sequences * ring, block_tokens, format };
        let numbers = |sequence: usize, each: usize| {
            (sequence * each..(sequence + 1) * each).map(|block| block as u32).collect::<Vec<_>>()
        };
        let tables = (0..sequences)
            .map(|sequence| SequenceBlocks::new(numbers(sequence, each), &numbers(sequence, ring)))
            .collect();
        Ok((self.new_cache(size)?, tables))
    }

    /// A store for one sequence of up to `tokens` tokens, and its blocks.
    ///
    /// # Errors
    /// A size that cannot be allocated.
    pub fn cache_for_one(
        &self,
        tokens: usize,
        block_tokens: usize,
        format: CacheFormat,
    ) -> Result<(KeyValueStore, SequenceBlocks), ModelError> {
        let (store, mut tables) = self.cache_for(1, tokens, block_tokens, format)?;
        Ok((store, tables.pop().unwrap_or_default()))
    }
}
