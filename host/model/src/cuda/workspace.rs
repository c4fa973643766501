//! The device's buffers of a pass, kept from step to step and grown as they are needed.

use espalier_kernels::{Cuda, CudaBuffer, CudaExperts, CudaPlacement, CudaSplits};

use crate::error::ModelError;
use crate::spec::{LayerSpec, ModelSpec};

/// Every buffer that a pass writes.
pub(super) struct Workspace {
    pub(super) placement: CudaPlacement,
    pub(super) splits: CudaSplits,
    pub(super) experts: CudaExperts,
    pub(super) hidden: CudaBuffer<f32>,
    pub(super) normed: CudaBuffer<f32>,
    pub(super) queries: CudaBuffer<f32>,
    pub(super) keys: CudaBuffer<f32>,
    pub(super) values: CudaBuffer<f32>,
    pub(super) heads: CudaBuffer<f32>,
    pub(super) gate: CudaBuffer<f32>,
    pub(super) up: CudaBuffer<f32>,
    pub(super) router: CudaBuffer<f32>,
    /// Activations rounded to bf16.
    pub(super) rounded: CudaBuffer<u32>,
    /// The outputs of experts.
    pub(super) terms: CudaBuffer<f32>,
    /// The rows of which logits are wanted.
    pub(super) selected: CudaBuffer<i32>,
    pub(super) chosen_rows: CudaBuffer<f32>,
    pub(super) logits: CudaBuffer<f32>,
}

impl Workspace {
    pub(super) fn new(cuda: &Cuda) -> Result<Self, ModelError> {
        Ok(Self {
            placement: cuda.placement()?,
            splits: cuda.splits()?,
            experts: cuda.experts()?,
            hidden: cuda.zeros(0)?,
            normed: cuda.zeros(0)?,
            queries: cuda.zeros(0)?,
            keys: cuda.zeros(0)?,
            values: cuda.zeros(0)?,
            heads: cuda.zeros(0)?,
            gate: cuda.zeros(0)?,
            up: cuda.zeros(0)?,
            router: cuda.zeros(0)?,
            rounded: cuda.zeros(0)?,
            terms: cuda.zeros(0)?,
            selected: cuda.zeros(0)?,
            chosen_rows: cuda.zeros(0)?,
            logits: cuda.zeros(0)?,
        })
    }

    /// Makes room for `tokens` tokens in every layer.
    pub(super) fn fit(&mut self, cuda: &Cuda, spec: &ModelSpec, tokens: usize) -> Result<(), ModelError> {
        // As many as a power of two, so that a batch that grows by one does not mean new memory every time.
        let tokens = tokens.next_power_of_two();
        let widest = |width: fn(&LayerSpec) -> usize| spec.layers.iter().map(width).max().unwrap_or(0);
        let active = |layer: &LayerSpec| layer.experts.map_or(1, |experts| experts.active);
        let heads = tokens * widest(|layer| layer.heads) * spec.head_dim;
        let kv = tokens * widest(|layer| layer.kv_heads) * spec.head_dim;
        let ffn = tokens * spec.layers.iter().map(|layer| layer.ffn_size * active(layer)).max().unwrap_or(0);
        let router = tokens * widest(|layer| layer.experts.map_or(0, |experts| experts.count));
        let pairs = tokens * widest(|layer| layer.experts.map_or(0, |experts| experts.active));
        let hidden = tokens * spec.hidden_size;
        cuda.grow(&mut self.hidden, hidden)?;
        cuda.grow(&mut self.normed, hidden)?;
        cuda.grow(&mut self.queries, heads)?;
        cuda.grow(&mut self.keys, kv)?;
        cuda.grow(&mut self.values, kv)?;
        cuda.grow(&mut self.heads, heads)?;
        cuda.grow(&mut self.gate, ffn)?;
        cuda.grow(&mut self.up, ffn)?;
        cuda.grow(&mut self.router, router)?;
        cuda.grow(&mut self.terms, pairs * spec.hidden_size)?;
        Ok(())
    }

    /// Makes room for the logits of `rows` rows.
    pub(super) fn fit_logits(
        &mut self,
        cuda: &Cuda,
        spec: &ModelSpec,
        rows: usize,
    ) -> Result<(), ModelError> {
        let rows = rows.next_power_of_two();
        cuda.grow(&mut self.selected, rows)?;
        cuda.grow(&mut self.chosen_rows, rows * spec.hidden_size)?;
        cuda.grow(&mut self.logits, rows * spec.vocab_size)?;
        Ok(())
    }
}
