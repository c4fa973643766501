//! What a model is: an architecture as data.
//!
//! [`ModelSpec`] is read from GGUF metadata or an HF `config.json` and is all that the forward pass, the pruner and
//! the writers know about a model's shape. Layers are listed one by one, because pruning may leave them unequal.
//! [`ModelSpec::tensors`] derives from it the exact list of tensors, by HF name and shape, that a checkpoint must
//! hold: readers check against it, writers and the pruner iterate over it.

#![deny(clippy::indexing_slicing)]

use serde::Serialize;

use crate::error::ModelError;

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

/// The gate's activation function in the feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// `silu(gate) * up`, with `silu(x) = x * sigmoid(x)`.
    Silu,
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

/// What a tensor is for; the unit of [`crate::inspect`]'s sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TensorPart {
    /// The token embedding.
    Embedding,
    /// Query, key, value and output projections with their biases.
    Attention,
    /// Gate, up and down projections.
    FeedForward,
    /// All norms.
    Norm,
    /// The output projection, where it isn't the embedding.
    Head,
}

/// A tensor that a model of a given spec has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// HF name: `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// `[rows, columns]` of a matrix whose columns are contracted, or `[length]`.
    pub shape: Vec<usize>,
    /// What it is for.
    pub part: TensorPart,
    /// The layer, for those inside one.
    pub layer: Option<usize>,
}

impl ModelSpec {
    /// Every tensor of the model in the order embedding, layers, final norm, head.
    #[must_use]
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut list = Vec::with_capacity(self.layers.len() * 12 + 3);
        let outside = |name: &str, shape, part| TensorSpec { name: name.into(), shape, part, layer: None };
        let table = vec![self.vocab_size, self.hidden_size];
        list.push(outside("model.embed_tokens.weight", table.clone(), TensorPart::Embedding));
        for (index, layer) in self.layers.iter().enumerate() {
            self.push_layer(index, layer, &mut list);
        }
        list.push(outside("model.norm.weight", vec![self.hidden_size], TensorPart::Norm));
        if !self.tie_word_embeddings {
            list.push(outside("lm_head.weight", table, TensorPart::Head));
        }
        list
    }

    fn push_layer(&self, index: usize, layer: &LayerSpec, list: &mut Vec<TensorSpec>) {
        let hidden = self.hidden_size;
        let queries = layer.heads * self.head_dim;
        let keys = layer.kv_heads * self.head_dim;
        let mut push = |name: &str, shape: Vec<usize>, part| {
            let name = format!("model.layers.{index}.{name}");
            list.push(TensorSpec { name, shape, part, layer: Some(index) });
        };
        push("input_layernorm.weight", vec![hidden], TensorPart::Norm);
        for (projection, rows) in [("q", queries), ("k", keys), ("v", keys)] {
            push(&format!("self_attn.{projection}_proj.weight"), vec![rows, hidden], TensorPart::Attention);
            if layer.attention_bias {
                push(&format!("self_attn.{projection}_proj.bias"), vec![rows], TensorPart::Attention);
            }
        }
        push("self_attn.o_proj.weight", vec![hidden, queries], TensorPart::Attention);
        if layer.output_bias {
            push("self_attn.o_proj.bias", vec![hidden], TensorPart::Attention);
        }
        push("post_attention_layernorm.weight", vec![hidden], TensorPart::Norm);
        push("mlp.gate_proj.weight", vec![layer.ffn_size, hidden], TensorPart::FeedForward);
        push("mlp.up_proj.weight", vec![layer.ffn_size, hidden], TensorPart::FeedForward);
        push("mlp.down_proj.weight", vec![hidden, layer.ffn_size], TensorPart::FeedForward);
    }

    /// Number of parameters; a tied embedding counts once.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.tensors()
            .iter()
            .map(|tensor| tensor.shape.iter().map(|&side| side as u64).product::<u64>())
            .sum()
    }

    /// Checks what the arithmetic of a forward pass relies on, so that nothing behind it needs to.
    ///
    /// # Errors
    /// Names the field, what it holds and what it must hold.
    pub fn validate(&self) -> Result<(), ModelError> {
        let positive = [
            ("hidden size", self.hidden_size),
            ("vocabulary size", self.vocab_size),
            ("head dimension", self.head_dim),
            ("number of layers", self.layers.len()),
            ("maximum of positions", self.max_positions),
        ];
        for (what, value) in positive {
            within(what, value, LARGEST_SIDE)?;
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(ModelError::malformed("head dimension", self.head_dim, "an even number"));
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0) {
            return Err(ModelError::malformed(
                "RMS norm epsilon",
                self.rms_norm_eps,
                "a finite number, 0 or more",
            ));
        }
        self.rope.validate(self.head_dim)?;
        for (index, layer) in self.layers.iter().enumerate() {
            layer.validate(index)?;
            let widest = layer.heads.saturating_mul(self.head_dim);
            within(&format!("layer {index}: heads x head dimension"), widest, LARGEST_SIDE)?;
        }
        for &token in self.bos.iter().chain(&self.eos) {
            if token as usize >= self.vocab_size {
                let expected = format!("less than the vocabulary size {}", self.vocab_size);
                return Err(ModelError::malformed("beginning or end token", token, expected));
            }
        }
        Ok(())
    }
}

/// No published model comes near it; it keeps every product of two sides inside 64 bits.
const LARGEST_SIDE: usize = 1 << 28;

fn within(what: &str, value: usize, limit: usize) -> Result<(), ModelError> {
    if value == 0 || value > limit {
        return Err(ModelError::malformed(what, value, format!("1 to {limit}")));
    }
    Ok(())
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

    fn validate(&self, index: usize) -> Result<(), ModelError> {
        within(&format!("layer {index}: query heads"), self.heads, 1 << 16)?;
        within(&format!("layer {index}: key/value heads"), self.kv_heads, 1 << 16)?;
        within(&format!("layer {index}: feed-forward size"), self.ffn_size, LARGEST_SIDE)?;
        if !self.heads.is_multiple_of(self.kv_heads) {
            let expected = format!("a multiple of the {} key/value heads", self.kv_heads);
            return Err(ModelError::malformed(format!("layer {index}: query heads"), self.heads, expected));
        }
        if self.sliding_window == Some(0) {
            return Err(ModelError::malformed(format!("layer {index}: sliding window"), 0, "1 or more"));
        }
        Ok(())
    }
}

impl RopeSpec {
    fn validate(&self, head_dim: usize) -> Result<(), ModelError> {
        let positive = |what: &str, value: f64| {
            if value.is_finite() && value > 0.0 {
                Ok(())
            } else {
                Err(ModelError::malformed(format!("rope {what}"), value, "a finite number above 0"))
            }
        };
        positive("theta", self.theta)?;
        match &self.scaling {
            RopeScaling::None => Ok(()),
            RopeScaling::Linear { factor } => positive("factor", *factor),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions } => {
                positive("factor", *factor)?;
                positive("low_freq_factor", *low_freq_factor)?;
                positive("high_freq_factor", *high_freq_factor)?;
                positive("original maximum of positions", *original_max_positions as f64)?;
                if high_freq_factor <= low_freq_factor {
                    let expected = format!("above low_freq_factor {low_freq_factor}");
                    return Err(ModelError::malformed("rope high_freq_factor", high_freq_factor, expected));
                }
                Ok(())
            }
            RopeScaling::Yarn {
                factor,
                beta_fast,
                beta_slow,
                original_max_positions,
                attention_factor,
                ..
            } => {
                positive("factor", *factor)?;
                positive("beta_fast", *beta_fast)?;
                positive("beta_slow", *beta_slow)?;
                positive("attention_factor", *attention_factor)?;
                positive("original maximum of positions", *original_max_positions as f64)
            }
            RopeScaling::Factors { factors } => {
                if factors.len() != head_dim / 2 {
                    let expected = format!("half the head dimension, {}", head_dim / 2);
                    return Err(ModelError::malformed("number of rope factors", factors.len(), expected));
                }
                factors.iter().try_for_each(|&factor| positive("factor", f64::from(factor)))
            }
        }
    }
}
