//! The cache blocks of one sequence that runs by itself, and how many a model's sequences need.
//!
//! Layers that see every token need a block for each stretch of a sequence. Layers with a sliding window need those of
//! the window and of the tokens that are computed together; here, where no other sequence can want them, they are used
//! in turn: when a block's tokens have left the window of every query to come, its place is written anew. The engine,
//! whose sequences come and go, gives blocks as they are needed instead.

use espalier_kernels::{
    CacheFormat, CacheLayer, CacheSize, CudaKeyValueStore, KernelError, KeyValueStore, SequenceSpan,
};

use crate::cuda::KeyValueCache;
use crate::error::ModelError;
use crate::model::Model;

/// Where one sequence's keys and values lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceBlocks {
    blocks: Vec<u32>,
    window_blocks: Vec<u32>,
    /// Tokens that are computed together at most: for more the windowed layers' blocks would not do.
    step_tokens: usize,
}

impl SequenceBlocks {
    /// The `queries` tokens of the sequence from `first_position` on, for a batch.
    ///
    /// # Errors
    /// More tokens at once than the blocks were made for.
    pub fn span(&self, first_position: usize, queries: usize) -> Result<SequenceSpan<'_>, ModelError> {
        if queries > self.step_tokens {
            let expected = format!("at most {}, for which its cache was made", self.step_tokens);
            return Err(ModelError::argument("tokens of a sequence at once", queries, expected));
        }
        let Self { blocks, window_blocks, .. } = self;
        Ok(SequenceSpan { blocks, window_blocks, first_position, queries })
    }
}

/// How long sequences are and how they are computed, for [`Model::cache_for`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SequenceSize {
    /// Most tokens of a sequence.
    pub tokens: usize,
    /// Most tokens that are computed together.
    pub step_tokens: usize,
    /// Tokens in a block.
    pub block_tokens: usize,
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

    /// The widest sliding window, in tokens; none where every layer sees every token.
    #[must_use]
    pub fn sliding_window(&self) -> Option<usize> {
        self.spec.layers.iter().filter_map(|layer| layer.sliding_window).max()
    }

    /// Blocks that a sequence needs in the windowed layers; 0 where the model has none.
    ///
    /// While tokens are computed, they and those in the window of the first of them are live; in blocks, at most one
    /// more than they fill.
    #[must_use]
    pub fn window_blocks(&self, size: SequenceSize) -> usize {
        let SequenceSize { tokens, step_tokens, block_tokens } = size;
        let block_tokens = block_tokens.max(1);
        self.sliding_window().map_or(0, |window| {
            let live = window.saturating_add(step_tokens.max(1) - 1);
            ((live - 1).div_ceil(block_tokens) + 1).min(tokens.div_ceil(block_tokens))
        })
    }

    /// A key-value cache for this model, where it runs.
    ///
    /// # Errors
    /// A size that cannot be allocated, a format that the device doesn't store.
    pub fn new_cache(&self, size: CacheSize) -> Result<KeyValueCache, ModelError> {
        match &self.cuda {
            Some(weights) => self.new_cuda_cache(weights, size),
            None => Ok(KeyValueCache::Host(KeyValueStore::new(&self.cache_layers(), size)?)),
        }
    }

    /// Bytes that one block takes over all windowed layers, or over all others, for sizing a cache before it is made.
    ///
    /// # Errors
    /// A format that the device doesn't store.
    pub fn cache_block_bytes(
        &self,
        windowed: bool,
        block_tokens: usize,
        format: CacheFormat,
    ) -> Result<usize, KernelError> {
        let layers = self.cache_layers();
        match &self.cuda {
            Some(_) => CudaKeyValueStore::block_bytes(&layers, windowed, block_tokens, format),
            None => Ok(KeyValueStore::block_bytes(&layers, windowed, block_tokens, format)),
        }
    }

    /// A store for `sequences` sequences of `size`, and their blocks.
    ///
    /// # Errors
    /// A size that cannot be allocated.
    pub fn cache_for(
        &self,
        sequences: usize,
        size: SequenceSize,
        format: CacheFormat,
    ) -> Result<(KeyValueCache, Vec<SequenceBlocks>), ModelError> {
        let SequenceSize { tokens, step_tokens, block_tokens } = size;
        let each = tokens.div_ceil(block_tokens.max(1));
        let ring = self.window_blocks(size);
        let size =
            CacheSize { blocks: sequences * each, window_blocks: sequences * ring, block_tokens, format };
        let tables = (0..sequences)
            .map(|sequence| {
                let window = (0..ring).cycle().take(each).map(|block| (sequence * ring + block) as u32);
                SequenceBlocks {
                    blocks: (0..each).map(|block| (sequence * each + block) as u32).collect(),
                    window_blocks: window.collect(),
                    step_tokens,
                }
            })
            .collect();
        Ok((self.new_cache(size)?, tables))
    }

    /// A store for one sequence of `size`, and its blocks.
    ///
    /// # Errors
    /// A size that cannot be allocated.
    pub fn cache_for_one(
        &self,
        size: SequenceSize,
        format: CacheFormat,
    ) -> Result<(KeyValueCache, SequenceBlocks), ModelError> {
        let (store, mut tables) = self.cache_for(1, size, format)?;
        let none = SequenceBlocks { blocks: Vec::new(), window_blocks: Vec::new(), step_tokens: 0 };
        Ok((store, tables.pop().unwrap_or(none)))
    }
}
