//! What a model is: an architecture as data.
//!
//! [`ModelSpec`] is read from GGUF metadata or an HF `config.json` and is all that the forward pass, the pruner and
//! the writers know about a model's shape. Layers are listed one by one, because pruning may leave them unequal.
//! [`ModelSpec::tensors`] derives from it the exact list of tensors, by HF name and shape, that a checkpoint must
//! hold: readers check against it, writers and the pruner iterate over it.

#![deny(clippy::indexing_slicing)]

mod tensors;
mod validate;

use serde::Serialize;

pub use self::tensors::{TensorPart, TensorSpec};

/// The families of models with a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Architecture {
    /// Llama 1-3 and everything built like it (SmolLM2, Mistral-like without a window).
    Llama,
    /// Qwen 2 and 2.5: Llama with biases on q, k and v.
    Qwen2,
    /// OpenAI's gpt-oss: mixture of experts with attention sinks and alternating sliding windows.
    GptOss,
}

impl Architecture {
    /// Every family.
    pub(crate) const ALL: [Self; 3] = [Self::Llama, Self::Qwen2, Self::GptOss];

    /// HF's `model_type`.
    #[must_use]
    pub const fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::GptOss => "gpt_oss",
        }
    }

    /// HF's class name in `architectures`.
    #[must_use]
    pub const fn class_name(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::GptOss => "GptOssForCausalLM",
        }
    }

    /// GGUF's `general.architecture`.
    #[must_use]
    pub const fn gguf_name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::GptOss => "gpt-oss",
        }
    }
}

/// How gate and up are joined in the feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// `silu(gate) * up`, with `silu(x) = x * sigmoid(x)`.
    Silu,
    /// gpt-oss: with `gate` at most `limit` and `up` in `[-limit, limit]`, `gate * sigmoid(alpha * gate) * (up + 1)`.
    ClampedSwiglu {
        /// Factor inside the sigmoid.
        alpha: f32,
        /// Bound on gate and up.
        limit: f32,
    },
}

/// A whole model's shape.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelSpec {
    /// The family.
    pub architecture: Architecture,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Rows of the embedding; may exceed the tokenizer's vocabulary.
    pub vocab_size: usize,
    /// Width of one attention head; independent of `hidden_size / heads`.
    pub head_dim: usize,
    /// The layers, first to last.
    pub layers: Vec<LayerSpec>,
    /// Added to the mean square inside every RMS norm.
    pub rms_norm_eps: f32,
    /// Rotary position embedding.
    pub rope: RopeSpec,
    /// Positions that the model was trained for.
    pub max_positions: usize,
    /// Whether the output projection is the embedding matrix.
    pub tie_word_embeddings: bool,
    /// Beginning-of-sequence token.
    pub bos: Option<u32>,
    /// Tokens that end a generation.
    pub eos: Vec<u32>,
    /// Whether the tokenizer puts `bos` in front of a text.
    pub add_bos: bool,
    /// The gate's activation.
    pub activation: Activation,
}

/// One layer's shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerSpec {
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// Key/value heads; query head h reads key/value head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Width of the feed-forward part (of each expert, if there are experts).
    pub ffn_size: usize,
    /// Whether q, k and v have biases.
    pub attention_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub output_bias: bool,
    /// Number of keys, the own one included, that a query sees; `None` sees all.
    pub sliding_window: Option<usize>,
    /// Whether each query head has a sink: a logit that takes part in the softmax and has no value.
    pub attention_sinks: bool,
    /// The mixture of experts that the feed-forward part is, if it is one.
    pub experts: Option<ExpertsSpec>,
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ExpertsSpec {
    /// Experts in the layer.
    pub count: usize,
    /// Experts that each token passes through.
    pub active: usize,
}

/// Rotary position embedding, "halves" (NeoX) layout as in HF: dimension i turns with dimension i + d/2.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RopeSpec {
    /// Base: `inv_freq_i = theta^(-2i/d)`.
    pub theta: f64,
    /// How frequencies are changed for longer contexts.
    pub scaling: RopeScaling,
}

/// Changes to the rotary frequencies, as HF's `modeling_rope_utils` defines them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RopeScaling {
    /// Unchanged.
    None,
    /// All frequencies divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1's smooth interpolation between unchanged and divided frequencies.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original / low` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original / high` stay.
        high_freq_factor: f64,
        /// The context length before extension.
        original_max_positions: usize,
    },
    /// YaRN (arXiv 2309.00071): interpolation by a ramp over dimensions, and a factor on cos and sin.
    Yarn {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Rotations at which the ramp begins.
        beta_fast: f64,
        /// Rotations at which the ramp ends.
        beta_slow: f64,
        /// The context length before extension.
        original_max_positions: usize,
        /// Factor on cos and sin; `0.1 ln(factor) + 1` unless the configuration gives one.
        attention_factor: f64,
        /// Whether the ramp's ends are rounded outward to whole dimensions.
        truncate: bool,
    },
    /// Divisors given one by one (GGUF's `rope_freqs.weight`): `inv_freq_i = theta^(-2i/d) / factors[i]`.
    Factors {
        /// One divisor for each pair of dimensions, `head_dim / 2` of them.
        factors: Vec<f32>,
    },
}

impl LayerSpec {
    /// Query heads that share one key/value head.
    #[must_use]
    pub const fn group_size(&self) -> usize {
        match self.heads.checked_div(self.kv_heads) {
            Some(size) => size,
            None => 0,
        }
    }
}
