//! Storage of keys and values in blocks of tokens.
//!
//! Which block belongs to which sequence, when one is shared and when it is freed is the engine's business.

use crate::KernelError;
use crate::error::check_length;

/// Keys of this many tokens lie side by side, so that one vector register holds one component of all of them.
pub(crate) const KEY_TILE: usize = 16;

/// Shape and place of one layer inside the store.
#[derive(Copy, Clone, Debug)]
struct LayerPlace {
    kv_heads: usize,
    head_dim: usize,
}

/// Keys and values of every layer, as f32, in `blocks` blocks of `block_tokens` tokens.
///
/// Keys are stored by tiles of 16 tokens, component-major inside a tile (`[kv head][tile][component][16]`): a query's
/// scores against a tile need no sum across a register. Values are stored by token (`[kv head][token][component]`).
pub struct KeyValueStore {
    layers: Vec<LayerPlace>,
    blocks: usize,
    block_tokens: usize,
    /// Per layer, all blocks.
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
}

impl KeyValueStore {
    /// Room for `blocks` blocks of `block_tokens` tokens; `layers` gives (KV heads, head dimension) of each layer.
    ///
    /// # Errors
    /// When a dimension is 0, the size overflows or the memory cannot be had.
    pub fn new(layers: &[(usize, usize)], blocks: usize, block_tokens: usize) -> Result<Self, KernelError> {
        if block_tokens == 0 || layers.iter().any(|(kv_heads, head_dim)| *kv_heads == 0 || *head_dim == 0) {
            let reason =
                format!("blocks of {block_tokens} tokens, layers (KV heads, head dimension) {layers:?}");
            return Err(KernelError::Shape { what: "key-value store", reason });
        }
        let mut store = Self {
            layers: layers.iter().map(|&(kv_heads, head_dim)| LayerPlace { kv_heads, head_dim }).collect(),
            blocks,
            block_tokens,
            keys: Vec::with_capacity(layers.len()),
            values: Vec::with_capacity(layers.len()),
        };
        for &(kv_heads, head_dim) in layers {
            store.keys.push(zeros(&[blocks, kv_heads, head_dim, store.padded_tokens()])?);
            store.values.push(zeros(&[blocks, kv_heads, head_dim, block_tokens])?);
        }
        Ok(store)
    }

    /// Bytes reserved for keys and values.
    pub fn bytes(&self) -> usize {
        self.keys.iter().chain(&self.values).map(|values| values.len() * size_of::<f32>()).sum()
    }

    /// Bytes that one block takes over all layers, for sizing a store before it is made.
    pub fn block_bytes(layers: &[(usize, usize)], block_tokens: usize) -> usize {
        let tokens = block_tokens + block_tokens.next_multiple_of(KEY_TILE);
        layers.iter().map(|(kv_heads, head_dim)| kv_heads * head_dim * tokens * size_of::<f32>()).sum()
    }

    /// Tokens in a block.
    pub fn block_tokens(&self) -> usize {
        self.block_tokens
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.blocks
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
        let LayerPlace { kv_heads, head_dim } = self.place(layer)?;
        let block = self.check_block(block)?;
        let row = kv_heads * head_dim;
        let tokens = keys.len() / row;
        check_length("the keys to store", keys.len(), tokens * row)?;
        check_length("the values to store", values.len(), keys.len())?;
        if offset.checked_add(tokens).is_none_or(|end| end > self.block_tokens) {
            let found = offset.saturating_add(tokens);
            return Err(KernelError::OutOfRange {
                what: "a write to a block",
                found,
                limit: self.block_tokens,
            });
        }
        let (padded, block_tokens) = (self.padded_tokens(), self.block_tokens);
        let (Some(stored_keys), Some(stored_values)) = (self.keys.get_mut(layer), self.values.get_mut(layer))
        else {
            return Ok(());
        };
        for token in 0..tokens {
            let place = offset + token;
            for head in 0..kv_heads {
                let from = token * row + head * head_dim..token * row + (head + 1) * head_dim;
                let tile = ((block * kv_heads + head) * padded + place / KEY_TILE * KEY_TILE) * head_dim;
                for (component, key) in keys[from.clone()].iter().enumerate() {
                    stored_keys[tile + component * KEY_TILE + place % KEY_TILE] = *key;
                }
                let to = ((block * kv_heads + head) * block_tokens + place) * head_dim;
                stored_values[to..to + head_dim].copy_from_slice(&values[from]);
            }
        }
        Ok(())
    }

    /// Reads back the key and the value (`kv_heads × head_dim` each) of one token.
    ///
    /// # Errors
    /// When the layer, the block or the place in it does not exist.
    pub fn read(&self, layer: usize, block: u32, offset: usize) -> Result<(Vec<f32>, Vec<f32>), KernelError> {
        let LayerPlace { kv_heads, head_dim } = self.place(layer)?;
        self.check_block(block)?;
        if offset >= self.block_tokens {
            return Err(KernelError::OutOfRange {
                what: "a place in a block",
                found: offset,
                limit: self.block_tokens,
            });
        }
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for head in 0..kv_heads {
            let tile = self.key_tile(layer, block, head, offset / KEY_TILE);
            keys.extend((0..head_dim).map(|component| tile[component * KEY_TILE + offset % KEY_TILE]));
            values.extend_from_slice(self.value_rows(layer, block, head, offset, 1));
        }
        Ok((keys, values))
    }

    /// Copies block `from` over block `to` in every layer (copy on write of a shared block).
    ///
    /// # Errors
    /// When either block does not exist.
    pub fn copy_block(&mut self, from: u32, to: u32) -> Result<(), KernelError> {
        let (from, to) = (self.check_block(from)?, self.check_block(to)?);
        for stored in self.keys.iter_mut().chain(&mut self.values) {
            let size = stored.len() / self.blocks;
            stored.copy_within(from * size..(from + 1) * size, to * size);
        }
        Ok(())
    }

    /// (KV heads, head dimension) of a layer.
    pub(crate) fn layer_shape(&self, layer: usize) -> Result<(usize, usize), KernelError> {
        self.place(layer).map(|place| (place.kv_heads, place.head_dim))
    }

    /// The 16 keys (`head_dim × 16`) of tile `tile` of a block. The caller has checked layer, block and head.
    #[inline]
    pub(crate) fn key_tile(&self, layer: usize, block: u32, head: usize, tile: usize) -> &[f32] {
        let LayerPlace { kv_heads, head_dim } = self.layers[layer];
        let start = ((block as usize * kv_heads + head) * self.padded_tokens() + tile * KEY_TILE) * head_dim;
        &self.keys[layer][start..start + KEY_TILE * head_dim]
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
    ) -> &[f32] {
        let LayerPlace { kv_heads, head_dim } = self.layers[layer];
        let start = ((block as usize * kv_heads + head) * self.block_tokens + offset) * head_dim;
        &self.values[layer][start..start + tokens * head_dim]
    }

    fn padded_tokens(&self) -> usize {
        self.block_tokens.next_multiple_of(KEY_TILE)
    }

    fn place(&self, layer: usize) -> Result<LayerPlace, KernelError> {
        let limit = self.layers.len();
        self.layers.get(layer).copied().ok_or(KernelError::OutOfRange {
            what: "a cache layer",
            found: layer,
            limit,
        })
    }

    pub(crate) fn check_block(&self, block: u32) -> Result<usize, KernelError> {
        let found = block as usize;
        if found < self.blocks {
            Ok(found)
        } else {
            Err(KernelError::OutOfRange { what: "a cache block", found, limit: self.blocks })
        }
    }
}

/// Zeroed memory for the product of `dimensions`. Pages that are never written stay unbacked.
fn zeros(dimensions: &[usize]) -> Result<Vec<f32>, KernelError> {
    let count = dimensions.iter().try_fold(1usize, |product, dimension| product.checked_mul(*dimension));
    let bytes = count
        .and_then(|count| count.checked_mul(size_of::<f32>()))
        .filter(|bytes| *bytes <= isize::MAX as usize);
    match (count, bytes) {
        (Some(count), Some(bytes)) => {
            // Reserving first turns an impossible size into an error instead of an abort.
            let mut probe: Vec<u8> = Vec::new();
            probe
                .try_reserve_exact(bytes)
                .map_err(|_| KernelError::Memory { what: "the key-value store", bytes })?;
            drop(probe);
            Ok(vec![0.0; count])
        }
        _ => Err(KernelError::Shape {
            what: "key-value store",
            reason: format!("{dimensions:?} values overflow the address space"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(start: usize, length: usize) -> Vec<f32> {
        (start..start + length).map(|value| value as f32).collect()
    }

    #[test]
    fn tokens_come_back_as_written() {
        for block_tokens in [1, 5, 16, 20, 32] {
            let mut store = KeyValueStore::new(&[(2, 4), (3, 8)], 3, block_tokens).unwrap();
            for layer in 0..2 {
                let row = [8, 24][layer];
                for offset in 0..block_tokens {
                    store.write(layer, 2, offset, &ramp(offset, row), &ramp(100 + offset, row)).unwrap();
                }
            }
            store.copy_block(2, 0).unwrap();
            for block in [0, 2] {
                let (keys, values) = store.read(1, block, block_tokens - 1).unwrap();
                assert_eq!(keys, ramp(block_tokens - 1, 24));
                assert_eq!(values, ramp(100 + block_tokens - 1, 24));
            }
            assert_eq!(store.read(0, 1, 0).unwrap().0, vec![0.0; 8]);
            assert_eq!(store.bytes(), 3 * KeyValueStore::block_bytes(&[(2, 4), (3, 8)], block_tokens));
        }
    }

    #[test]
    fn several_tokens_are_written_at_once() {
        let mut store = KeyValueStore::new(&[(1, 2)], 1, 8).unwrap();
        store.write(0, 0, 3, &ramp(0, 6), &ramp(10, 6)).unwrap();
        assert_eq!(store.read(0, 0, 4).unwrap(), (ramp(2, 2), ramp(12, 2)));
    }

    #[test]
    fn bad_places_are_refused() {
        let mut store = KeyValueStore::new(&[(1, 2)], 2, 4).unwrap();
        assert!(store.write(1, 0, 0, &[0.0; 2], &[0.0; 2]).is_err());
        assert!(store.write(0, 2, 0, &[0.0; 2], &[0.0; 2]).is_err());
        assert!(store.write(0, 0, 3, &[0.0; 4], &[0.0; 4]).is_err());
        assert!(store.write(0, 0, 0, &[0.0; 3], &[0.0; 3]).is_err());
        assert!(store.write(0, 0, 0, &[0.0; 2], &[0.0; 4]).is_err());
        assert!(store.copy_block(0, 2).is_err());
        assert!(store.read(0, 0, 4).is_err());
        assert!(KeyValueStore::new(&[(1, 0)], 2, 4).is_err());
        assert!(KeyValueStore::new(&[(1 << 30, 1 << 30)], 1 << 20, 16).is_err());
        assert!(KeyValueStore::new(&[(1 << 20, 1 << 20)], 1 << 10, 16).is_err());
    }
}
