//! The forward pass of a decoder-only transformer on tensors with gradients, the same code for every architecture.
//!
//! It computes what `espalier_model`'s exact forward pass computes, for whole sequences and without a cache. Layers may
//! differ in shape. The loss is not its business: see [`crate::gradients`].

mod adapted;
mod layer;
mod projection;

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::Tensor;
use espalier_kernels::Cpu;
use espalier_model::ModelSpec;

pub use self::adapted::{Adapter, AdapterShape, AdapterTarget};
pub(crate) use self::layer::{Layer, Taps};
use crate::batch::Batch;
use crate::error::TrainingError;
use crate::operation::heads::Rotation;
use crate::operation::products::Products;
use crate::operation::rms_norm::rms_norm;
use crate::operation::values;
use crate::parameters::{Parameter, Parameters};

/// A transformer whose weights, or the adapter on them, can be trained.
#[derive(Clone, Debug)]
pub struct Network {
    spec: ModelSpec,
    pub(crate) embedding: Tensor,
    pub(crate) layers: Vec<Layer>,
    pub(crate) final_norm: Tensor,
    pub(crate) head: Tensor,
    pub(crate) products: Products,
    inverse_frequencies: Vec<f32>,
    trainable: Vec<Parameter>,
}

impl Network {
    /// Joins `parameters` to a network; `adapter`, where given, is added to its projections and trains with them.
    ///
    /// # Errors
    /// A weight that is missing.
    pub fn new(
        spec: &ModelSpec,
        parameters: &Parameters,
        adapter: Option<&Adapter>,
    ) -> Result<Self, TrainingError> {
        spec.validate()?;
        let embedding = parameters.tensor("model.embed_tokens.weight")?.clone();
        let head = match spec.tie_word_embeddings {
            true => embedding.clone(),
            false => parameters.tensor("lm_head.weight")?.clone(),
        };
        let layers = spec
            .layers
            .iter()
            .enumerate()
            .map(|(index, layer)| Layer::new(index, layer, spec, parameters, adapter))
            .collect::<Result<_, _>>()?;
        let frequencies = spec.rope.inverse_frequencies(spec.head_dim);
        let adapted = adapter.into_iter().flat_map(Adapter::parameters);
        Ok(Self {
            embedding,
            layers,
            final_norm: parameters.tensor("model.norm.weight")?.clone(),
            head,
            products: Products::default(),
            inverse_frequencies: frequencies.into_iter().map(|frequency| frequency as f32).collect(),
            trainable: parameters.trainable().iter().cloned().chain(adapted.cloned()).collect(),
            spec: spec.clone(),
        })
    }

    /// Rounds the factors of its dense projections to bf16 from now on, in forward and backward passes, if `cpu` multiplies
    /// pairs of bf16; sums, norms, attention weights, routers and experts stay in f32, and so do the weights themselves.
    #[must_use]
    pub fn with_rounded_products(mut self, cpu: &Cpu) -> Self {
        if cpu.has_bf16_products() {
            self.products = Products::Rounded(cpu.clone());
            self.layers.iter_mut().for_each(|layer| layer.set_products(self.products.clone()));
        }
        self
    }

    /// The model's shape.
    #[must_use]
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// What an optimizer changes: weights in the order of [`ModelSpec::tensors`], then the adapter's.
    #[must_use]
    pub fn trainable(&self) -> &[Parameter] {
        &self.trainable
    }

    /// The place of every trainable tensor.
    pub(crate) fn places(&self) -> HashMap<candle_core::TensorId, usize> {
        self.trainable.iter().enumerate().map(|(place, parameter)| (parameter.variable.id(), place)).collect()
    }

    /// The logits `[sequences · positions, vocab_size]` of a batch, without gradients.
    ///
    /// # Errors
    /// A batch that contradicts the model.
    pub fn logits(&self, batch: &Batch) -> Result<Vec<f32>, TrainingError> {
        batch.check(&self.spec)?;
        let rotation = self.rotation(batch.positions());
        let mut hidden = self.embed(batch.tokens())?;
        for layer in &self.layers {
            hidden = layer.forward(&hidden, batch.positions(), &rotation, None)?.detach();
        }
        let normed = rms_norm(&hidden, &self.final_norm, self.spec.rms_norm_eps)?;
        Ok(self.products.transposed(&normed.detach(), &self.head.detach())?)
    }

    /// The rows `[tokens, hidden_size]` of the embedding, without a gradient.
    pub(crate) fn embed(&self, tokens: &[u32]) -> Result<Tensor, TrainingError> {
        let width = self.spec.hidden_size;
        let rows = values::read(&self.embedding, |table| {
            let mut rows = Vec::with_capacity(tokens.len() * width);
            for token in tokens {
                let start = *token as usize * width;
                rows.extend_from_slice(table.get(start..start + width).unwrap_or_default());
            }
            Ok(rows)
        })?;
        Ok(values::tensor(rows, (tokens.len(), width))?)
    }

    /// The angles of the first `positions` positions, rounded as the serving path rounds them.
    pub(crate) fn rotation(&self, positions: usize) -> Arc<Rotation> {
        let factor = self.spec.rope.attention_factor() as f32;
        let angle = |position: usize| {
            self.inverse_frequencies
                .iter()
                .map(move |frequency| f64::from(position as f32 * frequency).sin_cos())
        };
        let (sines, cosines) = (0..positions)
            .flat_map(angle)
            .map(|(sine, cosine)| (sine as f32 * factor, cosine as f32 * factor))
            .unzip();
        Arc::new(Rotation { cosines, sines })
    }
}
