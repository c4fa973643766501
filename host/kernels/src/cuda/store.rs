//! Keys and values in the device's memory, in blocks of tokens.
//!
//! As in the host's [`KeyValueStore`](crate::KeyValueStore) there are two kinds of blocks. A block of a layer is
//! `[kv head][token][component]`, for keys and for values.

use super::Cuda;
use super::buffer::CudaBuffer;
use super::launch::{Argument, Grid};
use super::program::{Program, Stored};
use crate::{CacheFormat, CacheLayer, CacheSize, KernelError};

/// Keys and values of every layer.
pub struct CudaKeyValueStore {
    pub(super) stored: Stored,
    layers: Vec<CacheLayer>,
    size: CacheSize,
    /// Per layer all blocks, in words of 4 bytes.
    keys: Vec<CudaBuffer<u32>>,
    values: Vec<CudaBuffer<u32>>,
}

impl CudaKeyValueStore {
    /// How much it holds, and as what.
    pub fn size(&self) -> CacheSize {
        self.size
    }

    /// Bytes reserved for keys and values.
    pub fn bytes(&self) -> usize {
        self.keys.iter().chain(&self.values).map(|buffer| buffer.len() * 4).sum()
    }

    /// What a layer stores.
    ///
    /// # Errors
    /// When there is no such layer.
    pub fn layer(&self, layer: usize) -> Result<CacheLayer, KernelError> {
        let limit = self.layers.len();
        let found = self.layers.get(layer).copied();
        found.ok_or(KernelError::OutOfRange { what: "a cache layer", found: layer, limit })
    }

    /// The addresses of a layer's keys and values.
    pub(super) fn arguments(&self, layer: usize) -> Result<[Argument; 2], KernelError> {
        match (self.keys.get(layer), self.values.get(layer)) {
            (Some(keys), Some(values)) => Ok([keys.argument(), values.argument()]),
            _ => {
                Err(KernelError::OutOfRange { what: "a cache layer", found: layer, limit: self.layers.len() })
            }
        }
    }

    /// Bytes that one block takes over all windowed layers, or over all others, for sizing a store before it is made.
    ///
    /// # Errors
    /// A format that the device does not store.
    pub fn block_bytes(
        layers: &[CacheLayer],
        windowed: bool,
        block_tokens: usize,
        format: CacheFormat,
    ) -> Result<usize, KernelError> {
        let bytes = Stored::of(format)?.bytes();
        let of_kind = layers.iter().filter(|layer| layer.windowed == windowed);
        Ok(of_kind.map(|layer| 2 * layer.kv_heads * layer.head_dim * block_tokens * bytes).sum())
    }
}

/// Words of one block of a layer.
fn block_words(layer: CacheLayer, size: CacheSize, stored: Stored) -> Result<usize, KernelError> {
    let bytes = layer.kv_heads * layer.head_dim * size.block_tokens * stored.bytes();
    if bytes == 0 || !bytes.is_multiple_of(4) {
        let reason =
            format!("{layer:?} in blocks of {} tokens: {bytes} bytes are not whole words", size.block_tokens);
        return Err(KernelError::Shape { what: "key-value store", reason });
    }
    Ok(bytes / 4)
}

impl Cuda {
    /// Room for the blocks of `size` in every layer.
    ///
    /// # Errors
    /// A format that the device does not store, heads that its kernels do not take, no memory left.
    pub fn key_value_store(
        &self,
        layers: &[CacheLayer],
        size: CacheSize,
    ) -> Result<CudaKeyValueStore, KernelError> {
        let stored = Stored::of(size.format)?;
        let (mut keys, mut values) = (Vec::with_capacity(layers.len()), Vec::with_capacity(layers.len()));
        for layer in layers {
            let blocks = if layer.windowed { size.window_blocks } else { size.blocks };
            let words = blocks * block_words(*layer, size, stored)?;
            keys.push(self.zeros(words)?);
            values.push(self.zeros(words)?);
        }
        Ok(CudaKeyValueStore { stored, layers: layers.to_vec(), size, keys, values })
    }

    /// Makes block `to` a copy of block `from`, keys and values, in all windowed layers or in all others.
    ///
    /// # Errors
    /// When there is no such block of that kind; nothing is copied then.
    pub fn copy_block(
        &self,
        store: &mut CudaKeyValueStore,
        windowed: bool,
        from: u32,
        to: u32,
    ) -> Result<(), KernelError> {
        let limit = if windowed { store.size.window_blocks } else { store.size.blocks };
        if let Some(found) = [from, to].map(|block| block as usize).into_iter().find(|block| *block >= limit)
        {
            return Err(KernelError::OutOfRange { what: "a cache block to copy", found, limit });
        }
        for (index, layer) in store.layers.iter().enumerate().filter(|(_, layer)| layer.windowed == windowed)
        {
            let words = block_words(*layer, store.size, store.stored)?;
            for buffer in store.arguments(index)? {
                let [from, to, length] = [from.into(), to.into(), words as u64].map(Argument::Long);
                let program = Program::Rotary(store.stored);
                // SAFETY: the arguments are the kernel's; both blocks are in the buffer, as was checked.
                unsafe {
                    self.launch(program, "copy_block", Grid::of_values(words), &[buffer, from, to, length])?
                };
            }
        }
        Ok(())
    }
}
