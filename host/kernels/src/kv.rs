//! Storage of keys and values in blocks of tokens.
//!
//! Which block belongs to which sequence, when one is shared and when it is freed is the engine's business.

use crate::cache_elements::{CacheElements, CacheRun};
use crate::error::check_length;
use crate::{CacheFormat, KernelError};

/// Keys of this many tokens lie side by side, so that one vector register holds one component of all of them.
pub(crate) const KEY_TILE: usize = 16;

/// What one layer stores for each token.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct CacheLayer {
    /// Key-value heads.
    pub kv_heads: usize,
    /// Components of a head.
    pub head_dim: usize,
    /// Whether the layer's blocks are the window blocks, which sequences give back or use again as their window moves.
    pub windowed: bool,
}

/// How much a store holds, and as what.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct CacheSize {
    /// Blocks of the layers that see every token.
    pub blocks: usize,
    /// Blocks of the layers with a sliding window.
    pub window_blocks: usize,
    /// Tokens in a block.
    pub block_tokens: usize,
    /// Format of the stored numbers.
    pub format: CacheFormat,
}

/// Keys and values of every layer, in blocks of tokens.
///
/// There are two kinds of blocks, each with its own numbers: those of the layers that see every token and those of the
/// windowed layers.
///
/// Keys are stored by tiles of 16 tokens, component-major inside a tile (`[kv head][tile][component][16]`): a query's
/// scores against a tile need no sum across a register. Values are stored by token (`[kv head][token][component]`).
/// In [`CacheFormat::Q8_0`] codes lie like that and 32 components of one token share a scale, for keys
/// `[kv head][tile][group][16]`, so that the scales of 16 keys are one register too, and for values
/// `[kv head][token][group]`.
pub struct KeyValueStore {
    layers: Vec<CacheLayer>,
    size: CacheSize,
    /// Per layer, all blocks.
    keys: Vec<CacheElements>,
    values: Vec<CacheElements>,
}

impl KeyValueStore {
    /// Room for the blocks of `size` in every layer.
    ///
    /// # Errors
    /// When a dimension is 0, heads do not divide into the format's groups, the size overflows or the memory cannot be had.
    pub fn new(layers: &[CacheLayer], size: CacheSize) -> Result<Self, KernelError> {
        let CacheSize { block_tokens, format, .. } = size;
        if block_tokens == 0 || layers.iter().any(|layer| layer.kv_heads == 0 || layer.head_dim == 0) {
            let reason = format!("blocks of {block_tokens} tokens, layers {layers:?}");
            return Err(KernelError::Shape { what: "key-value store", reason });
        }
        let multiple = format.head_multiple();
        if let Some(layer) = layers.iter().find(|layer| !layer.head_dim.is_multiple_of(multiple)) {
            let found = layer.head_dim;
            let reason =
                format!("{format} needs heads of a multiple of {multiple} components, not of {found}");
            return Err(KernelError::Shape { what: "key-value store", reason });
        }
        let mut store = Self {
            layers: layers.to_vec(),
            size,
            keys: Vec::with_capacity(layers.len()),
            values: Vec::with_capacity(layers.len()),
        };
        for &layer in layers {
            let (blocks, CacheLayer { kv_heads, head_dim, .. }) = (store.blocks_of(layer), layer);
            let keys = [blocks, kv_heads, head_dim, store.padded_tokens()];
            store.keys.push(CacheElements::zeros(format, &keys)?);
            store.values.push(CacheElements::zeros(format, &[blocks, kv_heads, head_dim, block_tokens])?);
        }
        Ok(store)
    }

    /// Bytes reserved for keys and values.
    pub fn bytes(&self) -> usize {
        self.keys.iter().chain(&self.values).map(CacheElements::bytes).sum()
    }

    /// Bytes that one block takes over all windowed layers, or over all others, for sizing a store before it is made.
    pub fn block_bytes(
        layers: &[CacheLayer],
        windowed: bool,
        block_tokens: usize,
        format: CacheFormat,
    ) -> usize {
        let tokens = block_tokens + block_tokens.next_multiple_of(KEY_TILE);
        layers
            .iter()
            .filter(|layer| layer.windowed == windowed)
            .map(|layer| format.bytes(layer.kv_heads * layer.head_dim * tokens))
            .sum()
    }

    /// Tokens in a block.
    pub fn block_tokens(&self) -> usize {
        self.size.block_tokens
    }

    /// Number of blocks of each kind.
    pub fn size(&self) -> CacheSize {
        self.size
    }

    /// Number of layers.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Writes the keys and values of consecutive tokens (`tokens × kv_heads × head_dim` each) from place `offset` of
    /// `block` on.
    ///
    /// # Errors
    /// When the layer or block does not exist, the tokens do not fit the block or the lengths do not agree.
    pub fn write(
        &mut self,
        layer: usize,
        block: u32,
        offset: usize,
        keys: &[f32],
        values: &[f32],
    ) -> Result<(), KernelError> {
        let CacheLayer { kv_heads, head_dim, .. } = self.layer(layer)?;
        let block = self.check_block(layer, block)?;
        let row = kv_heads * head_dim;
        let tokens = keys.len() / row;
        check_length("the keys to store", keys.len(), tokens * row)?;
        check_length("the values to store", values.len(), keys.len())?;
        if offset.checked_add(tokens).is_none_or(|end| end > self.size.block_tokens) {
            let found = offset.saturating_add(tokens);
            return Err(KernelError::OutOfRange {
                what: "a write to a block",
                found,
                limit: self.size.block_tokens,
            });
        }
        for token in 0..tokens {
            let place = offset + token;
            for head in 0..kv_heads {
                let (slot, row) = (block * kv_heads + head, token * row + head * head_dim);
                let (key, value) =
                    (self.key_start(slot, place, head_dim), self.value_start(slot, place, head_dim));
                self.keys[layer].write(key, KEY_TILE, &keys[row..row + head_dim]);
                self.values[layer].write(value, 1, &values[row..row + head_dim]);
            }
        }
        Ok(())
    }

    /// Reads back the key and the value (`kv_heads × head_dim` each) of one token, as they were rounded for storage.
    ///
    /// # Errors
    /// When the layer, the block or the place in it does not exist.
    pub fn read(&self, layer: usize, block: u32, offset: usize) -> Result<(Vec<f32>, Vec<f32>), KernelError> {
        let CacheLayer { kv_heads, head_dim, .. } = self.layer(layer)?;
        let block = self.check_block(layer, block)?;
        if offset >= self.size.block_tokens {
            return Err(KernelError::OutOfRange {
                what: "a place in a block",
                found: offset,
                limit: self.size.block_tokens,
            });
        }
        let (stored_keys, stored_values) = (&self.keys[layer], &self.values[layer]);
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for head in 0..kv_heads {
            let key = self.key_start(block * kv_heads + head, offset, head_dim);
            keys.extend(
                (0..head_dim).map(|component| stored_keys.value(key + component * KEY_TILE, KEY_TILE)),
            );
            let value = self.value_start(block * kv_heads + head, offset, head_dim);
            values.extend((0..head_dim).map(|component| stored_values.value(value + component, 1)));
        }
        Ok((keys, values))
    }

    /// Makes block `to` a copy of block `from`, keys and values, in all windowed layers or in all others.
    ///
    /// # Errors
    /// When there is no such block of that kind; nothing is copied then.
    pub fn copy_block(&mut self, windowed: bool, from: u32, to: u32) -> Result<(), KernelError> {
        let limit = if windowed { self.size.window_blocks } else { self.size.blocks };
        let (from, to) = (from as usize, to as usize);
        if let Some(found) = [from, to].into_iter().find(|block| *block >= limit) {
            return Err(KernelError::OutOfRange { what: "a cache block to copy", found, limit });
        }
        let padded = self.padded_tokens();
        let stored = self.keys.iter_mut().zip(&mut self.values);
        for (layer, (keys, values)) in self.layers.iter().zip(stored) {
            if layer.windowed == windowed {
                let row = layer.kv_heads * layer.head_dim;
                keys.copy_part(row * padded, from, to);
                values.copy_part(row * self.size.block_tokens, from, to);
            }
        }
        Ok(())
    }

    /// What a layer stores.
    ///
    /// # Errors
    /// When there is no such layer.
    pub fn layer(&self, layer: usize) -> Result<CacheLayer, KernelError> {
        let limit = self.layers.len();
        self.layers.get(layer).copied().ok_or(KernelError::OutOfRange {
            what: "a cache layer",
            found: layer,
            limit,
        })
    }

    /// The 16 keys (`head_dim × 16`) of tile `tile` of a block. The caller has checked layer, block and head.
    #[inline]
    pub(crate) fn key_tile(&self, layer: usize, block: u32, head: usize, tile: usize) -> CacheRun<'_> {
        let CacheLayer { kv_heads, head_dim, .. } = self.layers[layer];
        let start = self.key_start(block as usize * kv_heads + head, tile * KEY_TILE, head_dim);
        self.keys[layer].run(start, KEY_TILE * head_dim)
    }

    /// The values (`tokens × head_dim`) from place `offset` of a block on. The caller has checked the rest.
    #[inline]
    pub(crate) fn value_rows(
        &self,
        layer: usize,
        block: u32,
        head: usize,
        offset: usize,
        tokens: usize,
    ) -> CacheRun<'_> {
        let CacheLayer { kv_heads, head_dim, .. } = self.layers[layer];
        let start = self.value_start(block as usize * kv_heads + head, offset, head_dim);
        self.values[layer].run(start, tokens * head_dim)
    }

    /// Where the first component of a key lies; the others follow at distances of [`KEY_TILE`]. `slot` counts the
    /// layer's (block, head) pairs, `place` the tokens of the block.
    #[inline]
    fn key_start(&self, slot: usize, place: usize, head_dim: usize) -> usize {
        let tile = slot * self.padded_tokens() + place / KEY_TILE * KEY_TILE;
        tile * head_dim + place % KEY_TILE
    }

    /// Where a value of `head_dim` components lies.
    #[inline]
    fn value_start(&self, slot: usize, place: usize, head_dim: usize) -> usize {
        (slot * self.size.block_tokens + place) * head_dim
    }

    pub(crate) fn check_block(&self, layer: usize, block: u32) -> Result<usize, KernelError> {
        let (found, limit) = (block as usize, self.blocks_of(self.layer(layer)?));
        if found < limit {
            Ok(found)
        } else {
            Err(KernelError::OutOfRange { what: "a cache block", found, limit })
        }
    }

    fn blocks_of(&self, layer: CacheLayer) -> usize {
        if layer.windowed { self.size.window_blocks } else { self.size.blocks }
    }

    fn padded_tokens(&self) -> usize {
        self.size.block_tokens.next_multiple_of(KEY_TILE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole numbers that every format keeps: the largest of each 32 is 127.
    fn numbers(seed: usize, length: usize) -> Vec<f32> {
        let number = |index| if index % 32 == 0 { 127 } else { (seed * 17 + index * 5) % 127 };
        (0..length).map(|index| number(index) as f32).collect()
    }

    fn layer(kv_heads: usize, head_dim: usize) -> CacheLayer {
        CacheLayer { kv_heads, head_dim, windowed: false }
    }

    fn store(
        layers: &[CacheLayer],
        blocks: usize,
        block_tokens: usize,
    ) -> Result<KeyValueStore, KernelError> {
        KeyValueStore::new(
            layers,
            CacheSize { blocks, window_blocks: 1, block_tokens, format: CacheFormat::F32 },
        )
    }

    #[test]
    fn tokens_come_back_as_written() {
        let layers = [layer(2, 32), layer(3, 64)];
        for (block_tokens, format) in
            [1, 5, 16, 20, 32].into_iter().flat_map(|tokens| CacheFormat::ALL.map(|format| (tokens, format)))
        {
            let size = CacheSize { blocks: 3, window_blocks: 1, block_tokens, format };
            let mut store = KeyValueStore::new(&layers, size).unwrap();
            for (layer, row) in [64, 192].into_iter().enumerate() {
                for offset in 0..block_tokens {
                    store
                        .write(layer, 2, offset, &numbers(offset, row), &numbers(100 + offset, row))
                        .unwrap();
                }
            }
            let (keys, values) = store.read(1, 2, block_tokens - 1).unwrap();
            assert_eq!((keys, values), (numbers(block_tokens - 1, 192), numbers(99 + block_tokens, 192)));
            assert_eq!(store.read(0, 1, 0).unwrap().0, vec![0.0; 64]);
            assert_eq!(store.bytes(), 3 * KeyValueStore::block_bytes(&layers, false, block_tokens, format));
        }
    }

    #[test]
    fn windowed_layers_have_blocks_of_their_own() {
        let layers = [layer(1, 32), CacheLayer { windowed: true, ..layer(1, 32) }];
        for format in CacheFormat::ALL {
            let size = CacheSize { blocks: 5, window_blocks: 2, block_tokens: 16, format };
            let mut store = KeyValueStore::new(&layers, size).unwrap();
            let bytes = |windowed| KeyValueStore::block_bytes(&layers, windowed, 16, format);
            assert_eq!(store.bytes(), 5 * bytes(false) + 2 * bytes(true));
            let row = numbers(0, 32);
            store.write(0, 4, 0, &row, &row).unwrap();
            store.write(1, 1, 0, &row, &row).unwrap();
            assert!(store.write(1, 2, 0, &row, &row).is_err());
        }
    }

    #[test]
    fn blocks_are_copied_in_the_layers_of_their_kind() {
        let layers = [layer(2, 32), CacheLayer { windowed: true, ..layer(1, 64) }, layer(1, 32)];
        for (format, windowed) in
            CacheFormat::ALL.into_iter().flat_map(|format| [(format, false), (format, true)])
        {
            let size = CacheSize { blocks: 3, window_blocks: 3, block_tokens: 20, format };
            let mut store = KeyValueStore::new(&layers, size).unwrap();
            for block in 0..3 {
                for (index, row) in [64, 64, 32].into_iter().enumerate() {
                    let (seed, length) = (9 * block as usize + index, 20 * row);
                    let (keys, values) = (numbers(seed, length), numbers(seed + 50, length));
                    store.write(index, block, 0, &keys, &values).unwrap();
                }
            }
            let content = |store: &KeyValueStore, index, block| {
                (0..20).map(|place| store.read(index, block, place).unwrap()).collect::<Vec<_>>()
            };
            let before: Vec<_> = (0..9).map(|index| content(&store, index / 3, (index % 3) as u32)).collect();
            store.copy_block(windowed, 2, 0).unwrap();
            for (index, layer) in layers.iter().enumerate() {
                let source = if layer.windowed == windowed { 2 } else { 0 };
                assert_eq!(content(&store, index, 0), before[index * 3 + source], "{format}");
                assert_eq!(content(&store, index, 1), before[index * 3 + 1]);
                assert_eq!(content(&store, index, 2), before[index * 3 + 2]);
            }
            store.copy_block(windowed, 1, 1).unwrap();
            assert_eq!(content(&store, 0, 1), before[1]);
            assert!(store.copy_block(windowed, 3, 0).is_err());
            assert!(store.copy_block(windowed, 0, 3).is_err());
        }
    }

    #[test]
    fn several_tokens_are_written_at_once() {
        let mut store = store(&[layer(1, 2)], 1, 8).unwrap();
        store.write(0, 0, 3, &[0.0, 1.0, 2.0, 3.0], &[4.0, 5.0, 6.0, 7.0]).unwrap();
        assert_eq!(store.read(0, 0, 4).unwrap(), (vec![2.0, 3.0], vec![6.0, 7.0]));
    }

    #[test]
    fn heads_that_do_not_divide_into_scales_are_refused() {
        let size = CacheSize { blocks: 1, window_blocks: 0, block_tokens: 16, format: CacheFormat::Q8_0 };
        let error = KeyValueStore::new(&[layer(1, 32), layer(1, 80)], size).err().unwrap().to_string();
        assert!(error.ends_with("q8_0 needs heads of a multiple of 32 components, not of 80"), "{error}");
    }

    #[test]
    fn bad_places_are_refused() {
        let mut small = store(&[layer(1, 2)], 2, 4).unwrap();
        assert!(small.write(1, 0, 0, &[0.0; 2], &[0.0; 2]).is_err());
        assert!(small.write(0, 2, 0, &[0.0; 2], &[0.0; 2]).is_err());
        assert!(small.write(0, 0, 3, &[0.0; 4], &[0.0; 4]).is_err());
        assert!(small.write(0, 0, 0, &[0.0; 3], &[0.0; 3]).is_err());
        assert!(small.write(0, 0, 0, &[0.0; 2], &[0.0; 4]).is_err());
        assert!(small.read(0, 0, 4).is_err());
        assert!(store(&[layer(1, 0)], 2, 4).is_err());
        assert!(store(&[layer(1 << 30, 1 << 30)], 1 << 20, 16).is_err());
        assert!(store(&[layer(1 << 20, 1 << 20)], 1 << 10, 16).is_err());
    }
}
