//! A loaded model: weights in the shape that the kernels want, ready for [`Model::forward`].
//!
//! Weights are views of the checkpoint's memory map wherever the format allows it, so loading costs neither a copy nor
//! resident memory for them until they are used. A `Model` is immutable and shared by everything that runs it.

use espalier_kernels::{Cpu, KeyValueStore, Matrix};

use crate::checkpoint::Checkpoint;
use crate::error::ModelError;
use crate::forward::rope::RotaryTable;
use crate::spec::{LayerSpec, ModelSpec};
use crate::stored_tensor::StoredTensor;

/// The weights of a transformer and the device that runs them.
pub struct Model {
    pub(crate) spec: ModelSpec,
    pub(crate) cpu: Cpu,
    pub(crate) embedding: Matrix,
    pub(crate) layers: Vec<Layer>,
    pub(crate) final_norm: Vec<f32>,
    pub(crate) head: Matrix,
    pub(crate) rotary: RotaryTable,
    weight_bytes: u64,
}

/// One decoder layer's weights.
pub(crate) struct Layer {
    pub(crate) spec: LayerSpec,
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) attention_output: Linear,
    pub(crate) ffn_norm: Vec<f32>,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// A matrix `[outputs, inputs]` and its bias, if it has one.
pub(crate) struct Linear {
    pub(crate) weight: Matrix,
    pub(crate) bias: Option<Vec<f32>>,
}

impl Model {
    /// Takes the weights out of `checkpoint`.
    ///
    /// # Errors
    /// A mixture of experts, which the forward pass doesn't run yet; a tensor that is missing or whose shape contradicts
    /// the specification, by name and with both shapes.
    pub fn load(checkpoint: &Checkpoint, cpu: Cpu) -> Result<Self, ModelError> {
        let spec = checkpoint.spec().clone();
        if spec.layers.iter().any(|layer| layer.experts.is_some() || layer.attention_sinks) {
            return Err(ModelError::unsupported(
                "architecture to run",
                spec.architecture.gguf_name(),
                "llama, qwen2",
            ));
        }
        let source = Source { checkpoint, spec: &spec };
        let embedding = source.matrix("model.embed_tokens.weight", spec.vocab_size, spec.hidden_size)?;
        let head = if spec.tie_word_embeddings {
            embedding.clone()
        } else {
            source.matrix("lm_head.weight", spec.vocab_size, spec.hidden_size)?
        };
        let layers = spec
            .layers
            .iter()
            .enumerate()
            .map(|(index, layer)| source.layer(index, layer))
            .collect::<Result<Vec<_>, _>>()?;
        let final_norm = source.vector("model.norm.weight", spec.hidden_size)?;
        let rotary = RotaryTable::new(&spec.rope, spec.head_dim);
        let weight_bytes = checkpoint.tensors().map(|tensor| tensor.byte_len() as u64).sum();
        Ok(Self { cpu, embedding, layers, final_norm, head, rotary, weight_bytes, spec })
    }

    /// The shape of the model.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The device that runs it.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// Bytes of all weights as stored; a tied head counts once.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// A key-value store for this model with `blocks` blocks of `block_tokens` positions each.
    ///
    /// # Errors
    /// A size that cannot be allocated.
    pub fn new_cache(&self, blocks: usize, block_tokens: usize) -> Result<KeyValueStore, ModelError> {
        let layers: Vec<_> =
            self.spec.layers.iter().map(|layer| (layer.kv_heads, self.spec.head_dim)).collect();
        Ok(KeyValueStore::new(&layers, blocks, block_tokens)?)
    }

    /// Bytes of key-value cache that one token takes.
    pub fn cache_bytes_per_token(&self) -> u64 {
        let values: usize =
            self.spec.layers.iter().map(|layer| 2 * layer.kv_heads * self.spec.head_dim).sum();
        (values * size_of::<f32>()) as u64
    }
}

struct Source<'a> {
    checkpoint: &'a Checkpoint,
    spec: &'a ModelSpec,
}

impl Source<'_> {
    fn layer(&self, index: usize, layer: &LayerSpec) -> Result<Layer, ModelError> {
        let hidden = self.spec.hidden_size;
        let query_width = layer.heads * self.spec.head_dim;
        let key_width = layer.kv_heads * self.spec.head_dim;
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let attention = |part: &str, rows, columns, bias| {
            self.linear(&name(&format!("self_attn.{part}_proj")), rows, columns, bias)
        };
        let ffn =
            |part: &str, rows, columns| self.linear(&name(&format!("mlp.{part}_proj")), rows, columns, false);
        Ok(Layer {
            attention_norm: self.vector(&name("input_layernorm.weight"), hidden)?,
            query: attention("q", query_width, hidden, layer.attention_bias)?,
            key: attention("k", key_width, hidden, layer.attention_bias)?,
            value: attention("v", key_width, hidden, layer.attention_bias)?,
            attention_output: attention("o", hidden, query_width, layer.output_bias)?,
            ffn_norm: self.vector(&name("post_attention_layernorm.weight"), hidden)?,
            gate: ffn("gate", layer.ffn_size, hidden)?,
            up: ffn("up", layer.ffn_size, hidden)?,
            down: ffn("down", hidden, layer.ffn_size)?,
            spec: layer.clone(),
        })
    }

    fn linear(&self, name: &str, rows: usize, columns: usize, bias: bool) -> Result<Linear, ModelError> {
        let weight = self.matrix(&format!("{name}.weight"), rows, columns)?;
        let bias = bias.then(|| self.vector(&format!("{name}.bias"), rows)).transpose()?;
        Ok(Linear { weight, bias })
    }

    fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Matrix, ModelError> {
        self.shaped(name, &[rows, columns])?.matrix()
    }

    fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, ModelError> {
        self.shaped(name, &[length])?.to_f32()
    }

    fn shaped(&self, name: &str, expected: &[usize]) -> Result<&StoredTensor, ModelError> {
        let tensor = self.checkpoint.tensor(name)?;
        if tensor.shape != expected {
            return Err(ModelError::TensorShape {
                name: name.to_owned(),
                found: tensor.shape.clone(),
                expected: expected.to_vec(),
            });
        }
        Ok(tensor)
    }
}
