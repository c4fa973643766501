//! The forward pass on a CUDA device: the same layers as [`crate::forward`], in the device's memory.
//!
//! Guarantees: tokens, positions and block tables go to the device and logits come back; between them nothing waits for the
//! device, unless a probe wants to see something. Results are those of the processor's exact path but for the order of
//! sums; with [`Precision::Fast`] prompts are multiplied in bf16, except for the router.

mod experts;
mod layer;
mod recordings;
mod weights;
mod workspace;

use espalier_kernels::{
    CacheSize, Cuda, CudaInput, CudaKeyValueStore, CudaProduct, CudaStep, KeyValueStore, Precision,
    ProductRows,
};

use self::recordings::{Recordings, StepShape};
use self::weights::CudaWeights;
use self::workspace::Workspace;
use crate::error::ModelError;
use crate::forward::{Ablation, ForwardBatch, LogitRows};
use crate::model::Model;
use crate::probe::{NoProbes, Probe, ProbeSink};

pub(crate) use self::weights::CudaWeights as Weights;

/// Keys and values on a device, and the buffers of the passes that fill it.
pub struct CudaCache {
    cuda: Cuda,
    store: CudaKeyValueStore,
    workspace: Workspace,
    recordings: Recordings,
}

/// Keys and values where the model runs.
#[expect(clippy::large_enum_variant, reason = "one of them for each engine")]
pub enum KeyValueCache {
    /// In the host's memory.
    Host(KeyValueStore),
    /// In a CUDA device's.
    Cuda(CudaCache),
}

impl KeyValueCache {
    /// How much it holds, and as what.
    pub fn size(&self) -> CacheSize {
        match self {
            Self::Host(store) => store.size(),
            Self::Cuda(cache) => cache.store.size(),
        }
    }

    /// Bytes reserved for keys and values.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Host(store) => store.bytes(),
            Self::Cuda(cache) => cache.store.bytes(),
        }
    }

    /// Makes block `to` a copy of block `from`, keys and values, in all windowed layers or in all others.
    ///
    /// # Errors
    /// When there is no such block of that kind; nothing is copied then.
    pub fn copy_block(&mut self, windowed: bool, from: u32, to: u32) -> Result<(), ModelError> {
        match self {
            Self::Host(store) => store.copy_block(windowed, from, to)?,
            Self::Cuda(cache) => cache.cuda.copy_block(&mut cache.store, windowed, from, to)?,
        }
        Ok(())
    }
}

/// Everything that is the same for all layers of a pass.
struct Pass<'a> {
    model: &'a Model,
    cuda: &'a Cuda,
    rows: ProductRows,
    precision: Precision,
    /// What the pass does without.
    ablation: Option<&'a Ablation>,
    /// Whether the logits of all rows are wanted.
    scores_all: bool,
}

impl Model {
    /// A key-value store on the device that holds the weights.
    pub(crate) fn new_cuda_cache(
        &self,
        weights: &Weights,
        size: CacheSize,
    ) -> Result<KeyValueCache, ModelError> {
        // A stream of its own: two engines of one model do not wait for each other.
        let cuda = weights.cuda.fork()?;
        let store = cuda.key_value_store(&self.cache_layers(), size)?;
        let workspace = Workspace::new(&cuda)?;
        Ok(KeyValueCache::Cuda(CudaCache { cuda, store, workspace, recordings: Recordings::default() }))
    }

    /// [`Model::forward`] on the device; `selected` are the checked rows of which logits are wanted.
    pub(crate) fn forward_on_cuda(
        &self,
        weights: &CudaWeights,
        (batch, selected): (&ForwardBatch<'_>, &[usize]),
        cache: &mut CudaCache,
        precision: Precision,
        probes: &mut dyn ProbeSink,
        ablation: Option<&Ablation>,
    ) -> Result<Vec<f32>, ModelError> {
        if ablation.is_some_and(|ablation| !ablation.is_of_layers_only()) {
            let found = "heads, channels or experts";
            return Err(ModelError::unsupported("ablation on a CUDA device", found, "whole layers"));
        }
        let CudaCache { cuda, store, workspace, recordings } = cache;
        let (cuda, tokens) = (&*cuda, batch.tokens.len());
        let rows = ProductRows { all: tokens, decoding: batch.decoding };
        let scores_all = matches!(batch.logits_for, LogitRows::All);
        let pass = Pass { model: self, cuda, rows, precision, ablation, scores_all };
        workspace.fit(cuda, &self.spec, tokens)?;
        workspace.fit_logits(cuda, &self.spec, selected.len())?;
        let (cosines, sines) = self.rotary.angles(batch.positions());
        let step = CudaStep {
            tokens: batch.tokens,
            spans: batch.spans,
            block_tokens: store.size().block_tokens,
            blocks: (store.size().blocks, store.size().window_blocks),
            cosines: &cosines,
            sines: &sines,
            vocabulary: self.spec.vocab_size,
        };
        cuda.place(&mut workspace.placement, &step)?;
        let chosen: Vec<i32> = selected.iter().filter_map(|row| i32::try_from(*row).ok()).collect();
        cuda.write(&mut workspace.selected, 0, &chosen)?;
        let shape = StepShape {
            rows: tokens,
            selected: chosen.len(),
            splits: workspace.placement.splits(),
            precision,
        };
        // Only steps in which all tokens decode come again and again in the same shape.
        let is_recurrent = batch.decoding == tokens && !probes.wants_any() && ablation.is_none();
        if !is_recurrent || !recordings.replay(cuda, shape)? {
            pass.run(weights, chosen.len(), store, workspace, probes)?;
            if is_recurrent {
                recordings.record(cuda, shape, || {
                    pass.run(weights, chosen.len(), store, workspace, &mut NoProbes)
                })?;
            }
        }
        Ok(cuda.download(&workspace.logits, chosen.len() * self.spec.vocab_size)?)
    }
}

impl Pass<'_> {
    /// All layers, and the logits of the selected rows.
    fn run(
        &self,
        weights: &CudaWeights,
        selected: usize,
        store: &mut CudaKeyValueStore,
        workspace: &mut Workspace,
        probes: &mut dyn ProbeSink,
    ) -> Result<(), ModelError> {
        let (spec, width) = (&self.model.spec, self.model.spec.hidden_size);
        self.cuda.embed(&weights.embedding, &workspace.placement, &mut workspace.hidden)?;
        for (index, (layer, spec)) in weights.layers.iter().zip(&spec.layers).enumerate() {
            let ablation = self.ablation.and_then(|ablation| ablation.layer(index));
            if ablation.is_some_and(|layer| layer.whole) {
                continue;
            }
            self.show(probes, index, Probe::LayerInput, width, &workspace.hidden)?;
            self.attention(index, layer, spec, store, workspace, probes)?;
            self.feed_forward(index, layer, spec, workspace, probes)?;
            self.show(probes, index, Probe::LayerOutput, width, &workspace.hidden)?;
        }
        self.logits(weights, selected, workspace)
    }

    /// Logits of the first `selected` of the selected rows.
    fn logits(
        &self,
        weights: &CudaWeights,
        selected: usize,
        workspace: &mut Workspace,
    ) -> Result<(), ModelError> {
        let (cuda, epsilon) = (self.cuda, self.model.spec.rms_norm_eps);
        let Workspace { hidden, selected: chosen, chosen_rows, logits, rounded, .. } = workspace;
        cuda.rms_norm(hidden, (&weights.final_norm, epsilon), Some(chosen), 0..selected, chosen_rows)?;
        let head = weights.head.as_ref().unwrap_or(&weights.embedding);
        let product = CudaProduct { weights: head, bias: None, output: logits };
        // What is selected row by row is multiplied as what decodes, so that the last row of a prompt gets the same
        // whatever is selected beside it.
        let decoding = if self.scores_all { self.rows.decoding } else { selected };
        let (input, rows) = (CudaInput::Plain(chosen_rows), ProductRows { all: selected, decoding });
        Ok(cuda.multiply(&mut [product], input, rows, false, self.precision, rounded)?)
    }

    /// Shows one value for each token and column, if the sink wants them.
    fn show(
        &self,
        probes: &mut dyn ProbeSink,
        layer: usize,
        probe: Probe,
        width: usize,
        values: &espalier_kernels::CudaBuffer<f32>,
    ) -> Result<(), ModelError> {
        if probes.wants(layer, probe) {
            let values = self.cuda.download(values, self.rows.all * width)?;
            probes.record(layer, probe, self.rows.all, width, &values);
        }
        Ok(())
    }
}
