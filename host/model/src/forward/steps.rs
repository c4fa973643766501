//! Single halves of single layers, for whoever changes weights from layer to layer: closed-form recovery after pruning.
//!
//! The caller holds the hidden states of whole sequences and may change them between two steps. Arithmetic is the exact
//! path's, and what an [`Ablation`] takes out is out.

use espalier_kernels::{CacheFormat, Cpu, KeyValueStore, Precision, SequenceSpan};

use super::{Ablation, Pass, Scratch};
use crate::cuda::KeyValueCache;
use crate::error::ModelError;
use crate::model::Model;
use crate::probe::{Probe, ProbeSink};
use crate::sequence_blocks::{SequenceBlocks, SequenceSize};

const BLOCK_TOKENS: usize = 64;

/// Runs steps on sequences of one length, each from its first token.
pub struct LayerSteps<'a> {
    sequences: Sequences<'a>,
    cache: KeyValueStore,
    blocks: SequenceBlocks,
    scratch: Scratch,
}

/// What is the same for all sequences.
struct Sequences<'a> {
    model: &'a Model,
    ablation: &'a Ablation,
    tokens: usize,
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Sequences<'_> {
    fn pass<'b>(&'b self, spans: &'b [SequenceSpan<'b>]) -> Pass<'b> {
        Pass {
            model: self.model,
            tokens: self.tokens,
            spans,
            decoding: 0,
            precision: Precision::Exact,
            ablation: Some(self.ablation),
            cosines: &self.cosines,
            sines: &self.sines,
        }
    }
}

impl<'a> LayerSteps<'a> {
    /// For sequences of `tokens` tokens.
    ///
    /// # Errors
    /// A length beyond the model's context, or a model on another device than the processor.
    pub fn new(model: &'a Model, ablation: &'a Ablation, tokens: usize) -> Result<Self, ModelError> {
        if tokens > model.spec.max_positions {
            let expected = format!("at most {}, the model's context length", model.spec.max_positions);
            return Err(ModelError::argument("tokens of a sequence", tokens, expected));
        }
        let size = SequenceSize { tokens, step_tokens: tokens, block_tokens: BLOCK_TOKENS };
        let (KeyValueCache::Host(cache), blocks) = model.cache_for_one(size, CacheFormat::F32)? else {
            let expected = "the processor, where single layers can be run".to_owned();
            return Err(ModelError::argument("the model's device", "a CUDA device", expected));
        };
        let (cosines, sines) = model.rotary.angles(0..tokens);
        let scratch = model.scratch(tokens);
        let sequences = Sequences { model, ablation, tokens, cosines, sines };
        Ok(Self { sequences, cache, blocks, scratch })
    }

    /// The kernels that the model runs on.
    #[must_use]
    pub fn cpu(&self) -> &'a Cpu {
        &self.sequences.model.cpu
    }

    /// Values in a hidden state.
    #[must_use]
    pub fn hidden_size(&self) -> usize {
        self.sequences.model.spec.hidden_size
    }

    /// The hidden states `[tokens, hidden_size]` that enter the first layer.
    ///
    /// # Errors
    /// Another number of tokens, or one outside the vocabulary.
    pub fn embed(&self, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        if tokens.len() != self.sequences.tokens {
            return Err(ModelError::argument("tokens", tokens.len(), self.sequences.tokens.to_string()));
        }
        if let Some(token) =
            tokens.iter().find(|token| **token as usize >= self.sequences.model.spec.vocab_size)
        {
            let expected =
                format!("below {}, the size of the vocabulary", self.sequences.model.spec.vocab_size);
            return Err(ModelError::argument("token", token, expected));
        }
        self.sequences.model.embed(tokens)
    }

    /// Adds the attention of `layer` to `hidden`; returns the heads' outputs `[tokens, heads · head_dim]`, those that are
    /// taken out included.
    ///
    /// # Errors
    /// A layer that does not exist, or hidden states of another shape.
    pub fn attention(&mut self, layer: usize, hidden: &mut [f32]) -> Result<Vec<f32>, ModelError> {
        self.check(layer, hidden)?;
        let Some(of) = self.sequences.model.layers.get(layer) else { return Ok(Vec::new()) };
        let spans = [self.blocks.span(0, self.sequences.tokens)?];
        let pass = self.sequences.pass(&spans);
        let mut seen = Seen { probe: Probe::HeadOutput, values: Vec::new() };
        pass.attention(layer, of, &mut self.cache, hidden, &mut self.scratch, &mut seen)?;
        Ok(seen.values)
    }

    /// Adds the feed-forward part of `layer` to `hidden`; returns the gated activations `[tokens, ffn_size]` of a dense one,
    /// channels that are taken out included, and nothing of a mixture.
    ///
    /// # Errors
    /// A layer that does not exist, or hidden states of another shape.
    pub fn feed_forward(&mut self, layer: usize, hidden: &mut [f32]) -> Result<Vec<f32>, ModelError> {
        self.check(layer, hidden)?;
        let Some(of) = self.sequences.model.layers.get(layer) else { return Ok(Vec::new()) };
        let mut seen = Seen { probe: Probe::FfnActivation, values: Vec::new() };
        let pass = self.sequences.pass(&[]);
        pass.feed_forward(layer, of, hidden, &mut self.scratch, &mut seen)?;
        Ok(seen.values)
    }

    /// Adds the mixture of `layer` to `hidden` as [`LayerSteps::feed_forward`] does; returns what its experts saw.
    ///
    /// # Errors
    /// A layer that does not exist, or hidden states of another shape.
    pub fn mixture(&mut self, layer: usize, hidden: &mut [f32]) -> Result<MixtureStep, ModelError> {
        self.check(layer, hidden)?;
        let mut seen = MixtureStep::default();
        let Some(of) = self.sequences.model.layers.get(layer) else { return Ok(seen) };
        let pass = self.sequences.pass(&[]);
        pass.feed_forward(layer, of, hidden, &mut self.scratch, &mut seen)?;
        Ok(seen)
    }

    fn check(&self, layer: usize, hidden: &[f32]) -> Result<(), ModelError> {
        let layers = self.sequences.model.layers.len();
        if layer >= layers {
            return Err(ModelError::argument("layer", layer, format!("below {layers}")));
        }
        let expected = self.sequences.tokens * self.sequences.model.spec.hidden_size;
        if hidden.len() != expected {
            return Err(ModelError::argument("values of hidden states", hidden.len(), expected.to_string()));
        }
        Ok(())
    }
}

/// What the experts of a layer saw of a sequence; nothing where the layer has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MixtureStep {
    /// Each expert's gated activation summed over its tokens, channels that are taken out included: `[experts, ffn_size]`.
    pub activation_sums: Vec<f32>,
    /// The weight of each expert's output, 0 for the experts that a token does not pass through: `[tokens, experts]`.
    pub weights: Vec<f32>,
}

impl ProbeSink for MixtureStep {
    fn wants(&self, _layer: usize, probe: Probe) -> bool {
        matches!(probe, Probe::ExpertActivationSum | Probe::RouterWeights)
    }

    fn record(&mut self, _layer: usize, probe: Probe, _tokens: usize, _width: usize, values: &[f32]) {
        match probe {
            Probe::ExpertActivationSum => self.activation_sums.extend_from_slice(values),
            Probe::RouterWeights => self.weights.extend_from_slice(values),
            _ => {}
        }
    }
}

/// Keeps the values of one probe.
struct Seen {
    probe: Probe,
    values: Vec<f32>,
}

impl ProbeSink for Seen {
    fn wants(&self, _layer: usize, probe: Probe) -> bool {
        probe == self.probe
    }

    fn record(&mut self, _layer: usize, _probe: Probe, _tokens: usize, _width: usize, values: &[f32]) {
        self.values.extend_from_slice(values);
    }
}
