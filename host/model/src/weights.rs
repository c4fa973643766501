//! The weights of a loaded model's layers, as the kernels take them.
//!
//! Weights are views of the checkpoint's memory map wherever the format allows it: plain matrices in every format, and
//! experts in MXFP4 both as GGUF and as HF store them. What has to be moved (HF's unquantised experts, which are stored
//! with the contracted side first, and GGUF's query and key rows) is copied expert by expert and its source let go, so
//! that loading needs no more memory than the model does.

use espalier_kernels::Matrix;

use crate::checkpoint::Checkpoint;
use crate::error::ModelError;
use crate::spec::{ExpertsSpec, LayerSpec, ModelSpec};
use crate::stored_tensor::StoredTensor;

/// One decoder layer's weights.
pub(crate) struct Layer {
    pub(crate) spec: LayerSpec,
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) attention_output: Linear,
    /// One logit for each query head, if the layer has sinks.
    pub(crate) sinks: Option<Vec<f32>>,
    pub(crate) ffn_norm: Vec<f32>,
    pub(crate) feed_forward: FeedForward,
}

/// A layer's feed-forward part.
pub(crate) enum FeedForward {
    /// One network for every token.
    Dense(Box<GatedNetwork>),
    /// A router and the experts that it picks from.
    Experts {
        /// `[experts, hidden]`.
        router: Linear,
        /// All of them.
        experts: Vec<GatedNetwork>,
        /// How many each token passes through.
        active: usize,
    },
}

/// `down(activation(gate(x), up(x)))`.
pub(crate) struct GatedNetwork {
    /// `[ffn, hidden]`.
    pub(crate) gate: Linear,
    /// `[ffn, hidden]`.
    pub(crate) up: Linear,
    /// `[hidden, ffn]`.
    pub(crate) down: Linear,
}

/// A matrix `[outputs, inputs]` and its bias, if it has one.
pub(crate) struct Linear {
    pub(crate) weight: Matrix,
    pub(crate) bias: Option<Vec<f32>>,
}

/// Where a model's weights come from.
pub(crate) struct Source<'a> {
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) spec: &'a ModelSpec,
}

impl Source<'_> {
    /// All weights of layer `index`.
    pub(crate) fn layer(&self, index: usize, layer: &LayerSpec) -> Result<Layer, ModelError> {
        let hidden = self.spec.hidden_size;
        let query_width = layer.heads * self.spec.head_dim;
        let key_width = layer.kv_heads * self.spec.head_dim;
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let attention = |part: &str, rows, columns, bias| {
            self.linear(&name(&format!("self_attn.{part}_proj")), rows, columns, bias)
        };
        let sinks = layer.attention_sinks.then(|| self.vector(&name("self_attn.sinks"), layer.heads));
        Ok(Layer {
            attention_norm: self.vector(&name("input_layernorm.weight"), hidden)?,
            query: attention("q", query_width, hidden, layer.attention_bias)?,
            key: attention("k", key_width, hidden, layer.attention_bias)?,
            value: attention("v", key_width, hidden, layer.attention_bias)?,
            attention_output: attention("o", hidden, query_width, layer.output_bias)?,
            sinks: sinks.transpose()?,
            ffn_norm: self.vector(&name("post_attention_layernorm.weight"), hidden)?,
            feed_forward: self.feed_forward(&name("mlp"), layer)?,
            spec: layer.clone(),
        })
    }

    fn feed_forward(&self, name: &str, layer: &LayerSpec) -> Result<FeedForward, ModelError> {
        let (hidden, width) = (self.spec.hidden_size, layer.ffn_size);
        let Some(ExpertsSpec { count, active }) = layer.experts else {
            let linear =
                |part: &str, rows, columns| self.linear(&format!("{name}.{part}_proj"), rows, columns, false);
            return Ok(FeedForward::Dense(Box::new(GatedNetwork {
                gate: linear("gate", width, hidden)?,
                up: linear("up", width, hidden)?,
                down: linear("down", hidden, width)?,
            })));
        };
        let router = self.linear(&format!("{name}.router"), count, hidden, true)?;
        let projection = |part: &str, rows, columns| {
            self.projection(&format!("{name}.experts.{part}_proj"), count, rows, columns)
        };
        let experts = projection("gate", width, hidden)?
            .into_iter()
            .zip(projection("up", width, hidden)?)
            .zip(projection("down", hidden, width)?)
            .map(|((gate, up), down)| GatedNetwork { gate, up, down })
            .collect();
        Ok(FeedForward::Experts { router, experts, active })
    }

    /// One projection of every expert.
    fn projection(
        &self,
        name: &str,
        experts: usize,
        rows: usize,
        columns: usize,
    ) -> Result<Vec<Linear>, ModelError> {
        let weights = self.shaped(&format!("{name}.weight"), &[experts, rows, columns])?.expert_matrices()?;
        let biases = self.shaped(&format!("{name}.bias"), &[experts, rows])?.to_f32()?;
        let biases = biases.chunks_exact(rows.max(1)).map(|bias| Some(bias.to_vec()));
        Ok(weights.into_iter().zip(biases).map(|(weight, bias)| Linear { weight, bias }).collect())
    }

    fn linear(&self, name: &str, rows: usize, columns: usize, bias: bool) -> Result<Linear, ModelError> {
        let weight = self.matrix(&format!("{name}.weight"), rows, columns)?;
        let bias = bias.then(|| self.vector(&format!("{name}.bias"), rows)).transpose()?;
        Ok(Linear { weight, bias })
    }

    /// A matrix by name.
    pub(crate) fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Matrix, ModelError> {
        self.shaped(name, &[rows, columns])?.matrix()
    }

    /// A vector by name.
    pub(crate) fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, ModelError> {
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
