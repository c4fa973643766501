//! The forward pass of a decoder-only transformer, the same code for every architecture.
//!
//! Guarantees: row `r` of the result depends only on its own sequence, never on what else is in the batch (on the exact
//! path bit for bit, as long as the kernels keep their order of summation). Key-value rows of the batch's tokens are
//! written before they are read. Who owns which cache block is the caller's business.

mod ablation;
mod attention_statistics;
mod batch;
mod experts;
mod layer;
pub(crate) mod rope;
mod routing;
mod score;
mod steps;

use espalier_kernels::{Precision, SequenceSpan};

pub use ablation::Ablation;
pub(crate) use attention_statistics::AttentionStatistics;
pub use batch::{ForwardBatch, LogitRows};
pub use routing::{ExpertRows, Routing};
pub use score::LogitSink;
pub use steps::{LayerSteps, MixtureStep};

use crate::cuda::KeyValueCache;
use crate::error::ModelError;
use crate::model::Model;
use crate::probe::{NoProbes, Probe, ProbeSink};

/// Buffers of one pass, sized for its tokens and reused by every layer.
struct Scratch {
    normed: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    heads: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    residual: Vec<f32>,
    /// Outputs of experts; grows when the first layer with experts needs it.
    terms: Vec<f32>,
}

/// Everything that is the same for all layers of a pass.
struct Pass<'a> {
    model: &'a Model,
    tokens: usize,
    spans: &'a [SequenceSpan<'a>],
    /// Rows at the beginning that decode.
    decoding: usize,
    precision: Precision,
    /// What the pass does without.
    ablation: Option<&'a Ablation>,
    cosines: &'a [f32],
    sines: &'a [f32],
}

impl Model {
    /// Runs `batch` and returns the logits `[rows, vocab_size]` of the rows it selects.
    ///
    /// A [`Precision::Fast`] pass rounds the inputs of the attention's output and of the feed-forward products. Those of
    /// queries, keys, values and logits are rounded less ([`Precision::Wide`]), and the router's stay exact: with 8 bits for
    /// all, SmolLM2's distribution is twice as far from the exact one (mean KL 3.1e-3 against 1.4e-3; tests/golden holds
    /// it to 2e-3, and to 2e-4 where prompts are multiplied in bf16).
    ///
    /// # Errors
    /// A batch that contradicts the model or the cache: a token outside the vocabulary, spans that do not add up, a
    /// block table that is too short; a cache on another device.
    pub fn forward(
        &self,
        batch: &ForwardBatch<'_>,
        cache: &mut KeyValueCache,
        precision: Precision,
        probes: Option<&mut dyn ProbeSink>,
    ) -> Result<Vec<f32>, ModelError> {
        let mut silent = NoProbes;
        let probes = probes.unwrap_or(&mut silent);
        self.pass(batch, cache, precision, probes, None)
    }

    /// Runs `batch` in full precision without some units.
    ///
    /// # Errors
    /// See [`Model::forward`]; on a CUDA device also anything but whole layers to be taken out.
    pub fn forward_without(
        &self,
        ablation: &Ablation,
        batch: &ForwardBatch<'_>,
        cache: &mut KeyValueCache,
    ) -> Result<Vec<f32>, ModelError> {
        self.pass(batch, cache, Precision::Exact, &mut NoProbes, Some(ablation))
    }

    /// Whether nothing but whole layers can be taken out by [`Model::forward_without`], as on a CUDA device.
    pub fn ablates_layers_only(&self) -> bool {
        self.cuda.is_some()
    }

    fn pass(
        &self,
        batch: &ForwardBatch<'_>,
        cache: &mut KeyValueCache,
        precision: Precision,
        probes: &mut dyn ProbeSink,
        ablation: Option<&Ablation>,
    ) -> Result<Vec<f32>, ModelError> {
        let rows = batch.rows(self.spec.vocab_size)?;
        let cache = match (cache, &self.cuda) {
            (KeyValueCache::Cuda(cache), Some(weights)) => {
                let batch = (batch, rows.as_slice());
                return self.forward_on_cuda(weights, batch, cache, precision, probes, ablation);
            }
            (KeyValueCache::Host(cache), None) => cache,
            _ => {
                let expected = "the one that the weights are on".to_owned();
                return Err(ModelError::argument("the key-value cache's device", "another", expected));
            }
        };
        let (cosines, sines) = &self.rotary.angles(batch.positions());
        let (tokens, spans, decoding) = (batch.tokens.len(), batch.spans, batch.decoding);
        let pass = Pass { model: self, tokens, spans, decoding, precision, ablation, cosines, sines };
        let mut hidden = self.embed(batch.tokens)?;
        let mut scratch = self.scratch(batch.tokens.len());
        for (index, layer) in self.layers.iter().enumerate() {
            if pass.layer_ablation(index).is_some_and(|layer| layer.whole) {
                continue;
            }
            pass.show(probes, index, Probe::LayerInput, self.spec.hidden_size, &hidden);
            pass.attention(index, layer, cache, &mut hidden, &mut scratch, probes)?;
            pass.feed_forward(index, layer, &mut hidden, &mut scratch, probes)?;
            pass.show(probes, index, Probe::LayerOutput, self.spec.hidden_size, &hidden);
        }
        self.logits(&hidden, &rows, precision.gentle())
    }

    fn embed(&self, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        let width = self.spec.hidden_size;
        let mut hidden = vec![0.0; tokens.len() * width];
        for (row, &token) in hidden.chunks_exact_mut(width).zip(tokens) {
            self.embedding.dequantize_row(token as usize, row)?;
        }
        Ok(hidden)
    }

    fn logits(&self, hidden: &[f32], rows: &[usize], precision: Precision) -> Result<Vec<f32>, ModelError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let width = self.spec.hidden_size;
        let mut selected = Vec::with_capacity(rows.len() * width);
        for &row in rows {
            selected.extend_from_slice(&hidden[row * width..(row + 1) * width]);
        }
        let mut normed = vec![0.0; selected.len()];
        self.cpu.rms_norm(&selected, &self.final_norm, self.spec.rms_norm_eps, &mut normed);
        let mut logits = vec![0.0; rows.len() * self.spec.vocab_size];
        let input = self.cpu.activations(&normed, width, precision)?;
        self.cpu.matmul(&self.head, &input, &mut logits)?;
        Ok(logits)
    }

    fn scratch(&self, tokens: usize) -> Scratch {
        let widest = |width: fn(&crate::spec::LayerSpec) -> usize| {
            tokens * self.spec.layers.iter().map(width).max().unwrap_or(0)
        };
        let heads = widest(|layer| layer.heads) * self.spec.head_dim;
        let kv = widest(|layer| layer.kv_heads) * self.spec.head_dim;
        let ffn = widest(|layer| if layer.experts.is_some() { 0 } else { layer.ffn_size });
        let hidden = tokens * self.spec.hidden_size;
        Scratch {
            normed: vec![0.0; hidden],
            queries: vec![0.0; heads],
            keys: vec![0.0; kv],
            values: vec![0.0; kv],
            heads: vec![0.0; heads],
            gate: vec![0.0; ffn],
            up: vec![0.0; ffn],
            residual: vec![0.0; hidden],
            terms: Vec::new(),
        }
    }
}

impl Pass<'_> {
    /// What is taken out of a layer.
    fn layer_ablation(&self, layer: usize) -> Option<&ablation::LayerAblation> {
        self.ablation.and_then(|ablation| ablation.layer(layer))
    }
}
