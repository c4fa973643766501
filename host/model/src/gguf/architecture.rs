//! A model's shape from GGUF metadata.

use espalier_kernels::{Bytes, dequantize};

use super::metadata::Metadata;
use super::parse::GgufTensor;
use super::value::{Array, Value as GgufValue};
use crate::error::ModelError;
use crate::spec::{Activation, Architecture, ExpertsSpec, LayerSpec, ModelSpec, RopeScaling, RopeSpec};

/// Divisors of the rotary frequencies: how llama.cpp's converter stores Llama 3.1's scaling.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Whether gpt-oss's YaRN ramp is rounded outward, where it is: a key of this program alone. llama.cpp always rounds; the
/// model was trained without, so a file without the key means that.
pub(super) const YARN_TRUNCATE: &str = "rope.scaling.yarn_truncate";

/// gpt-oss's constants, which GGUF leaves to the program.
pub(super) const GPT_OSS_ACTIVATION: Activation = Activation::ClampedSwiglu { alpha: 1.702, limit: 7.0 };

/// More layers than any model has; it bounds what a lying `block_count` can make us allocate.
const MOST_LAYERS: usize = 4096;

/// Tokens that end an assistant's turn in the chat formats at hand. Converters before mid-2024 recorded only one of
/// `eos` and `eot`, so llama.cpp looks for these texts too.
const END_OF_TURN: [&str; 2] = ["<|im_end|>", "<|eot_id|>"];

/// Reads the shape; `tensors` tell whether there are an output projection and biases.
pub(super) fn spec(
    metadata: &Metadata,
    tensors: &[GgufTensor],
    bytes: &Bytes,
) -> Result<ModelSpec, ModelError> {
    let name = metadata.required_text("general.architecture")?;
    let Some(architecture) =
        Architecture::ALL.into_iter().find(|architecture| architecture.gguf_name() == name)
    else {
        return Err(ModelError::unsupported(
            "architecture",
            name,
            Architecture::ALL.map(Architecture::gguf_name).join(", "),
        ));
    };
    if let Some(parts) = metadata.size("split.count")?.filter(|&parts| parts > 1) {
        let found = format!("one of {parts} files");
        return Err(ModelError::unsupported(
            "split GGUF:",
            found,
            "a whole file, as gguf-split --merge makes it",
        ));
    }
    let keys = Keys { metadata, prefix: name };
    let hidden_size = keys.required_size("embedding_length")?;
    let count = keys.required_size("block_count")?;
    if count == 0 || count > MOST_LAYERS {
        let expected = format!("1 to {MOST_LAYERS}");
        return Err(ModelError::malformed(format!("metadata key {name}.block_count"), count, expected));
    }
    let heads = keys.required_size_per_layer("attention.head_count", count)?;
    let kv_heads = keys.size_per_layer("attention.head_count_kv", count)?.unwrap_or_else(|| heads.clone());
    let experts = experts(&keys, architecture)?;
    let ffn_key = if experts.is_some() { "expert_feed_forward_length" } else { "feed_forward_length" };
    let ffn_sizes = keys.required_size_per_layer(ffn_key, count)?;
    let gpt_oss = architecture == Architecture::GptOss;
    let windows = if gpt_oss { sliding_windows(&keys, count)? } else { vec![None; count] };
    let head_dim = head_dim(&keys, hidden_size, heads.first().copied().unwrap_or(0))?;
    let has = |name: &str| tensors.iter().any(|tensor| tensor.name == name);
    let layers = heads
        .into_iter()
        .zip(kv_heads)
        .zip(ffn_sizes)
        .zip(windows)
        .enumerate()
        .map(|(layer, (((heads, kv_heads), ffn_size), sliding_window))| LayerSpec {
            heads,
            kv_heads,
            ffn_size,
            attention_bias: has(&format!("blk.{layer}.attn_q.bias")),
            output_bias: has(&format!("blk.{layer}.attn_output.bias")),
            sliding_window,
            attention_sinks: gpt_oss,
            experts,
        })
        .collect();
    let max_positions = keys.required_size("context_length")?;
    let epsilon = keys.number("attention.layer_norm_rms_epsilon")?;
    let epsilon = epsilon.ok_or_else(|| keys.missing("attention.layer_norm_rms_epsilon", "a number"))?;
    let vocab_size = match keys.size("vocab_size")? {
        Some(size) => size,
        None => metadata.strings("tokenizer.ggml.tokens")?.len(),
    };
    let bos = metadata.token("tokenizer.ggml.bos_token_id")?;
    Ok(ModelSpec {
        architecture,
        hidden_size,
        vocab_size,
        head_dim,
        layers,
        rms_norm_eps: epsilon as f32,
        rope: rope(&keys, architecture, tensors, bytes, head_dim, max_positions)?,
        max_positions,
        tie_word_embeddings: !has("output.weight"),
        bos,
        eos: end_tokens(metadata)?,
        add_bos: bos.is_some() && adds_bos(metadata)?,
        activation: if gpt_oss { GPT_OSS_ACTIVATION } else { Activation::Silu },
    })
}

/// Whether BOS goes in front: the file's word, else llama.cpp's default for the pre-tokenizer.
pub(super) fn adds_bos(metadata: &Metadata) -> Result<bool, ModelError> {
    let stated = metadata.flag("tokenizer.ggml.add_bos_token")?;
    let default = matches!(metadata.text("tokenizer.ggml.pre"), Some("llama3" | "llama-v3" | "llama-bpe"));
    Ok(stated.unwrap_or(default))
}

/// Tokens that end a generation, ascending.
pub(super) fn end_tokens(metadata: &Metadata) -> Result<Vec<u32>, ModelError> {
    let mut tokens = Vec::new();
    for role in ["eos", "eot", "eom"] {
        tokens.extend(metadata.token(&format!("tokenizer.ggml.{role}_token_id"))?);
    }
    if let Ok(vocabulary) = metadata.strings("tokenizer.ggml.tokens") {
        let ending = vocabulary.iter().enumerate().filter(|(_, token)| END_OF_TURN.contains(&token.as_str()));
        tokens.extend(ending.filter_map(|(id, _)| u32::try_from(id).ok()));
    }
    tokens.sort_unstable();
    tokens.dedup();
    Ok(tokens)
}

fn experts(keys: &Keys<'_>, architecture: Architecture) -> Result<Option<ExpertsSpec>, ModelError> {
    if architecture == Architecture::GptOss {
        let count = keys.required_size("expert_count")?;
        return Ok(Some(ExpertsSpec { count, active: keys.required_size("expert_used_count")? }));
    }
    match keys.size("expert_count")? {
        Some(1..) => {
            let found = format!("{} with experts", architecture.gguf_name());
            Err(ModelError::unsupported("architecture", found, "dense models, and gpt-oss"))
        }
        _ => Ok(None),
    }
}

/// gpt-oss's window: on every other layer from the first on, unless the file says for each layer whether it slides.
fn sliding_windows(keys: &Keys<'_>, layers: usize) -> Result<Vec<Option<usize>>, ModelError> {
    const PATTERN: &str = "attention.sliding_window_pattern";
    let window = keys.required_size("attention.sliding_window")?;
    if let Some(GgufValue::Array(Array::Bool(slides))) = keys.metadata.get(&keys.full(PATTERN)) {
        if slides.len() != layers {
            let expected = format!("{layers}, one for each layer");
            return Err(ModelError::malformed(
                keys.name(PATTERN),
                format!("{} booleans", slides.len()),
                expected,
            ));
        }
        return Ok(slides.iter().map(|slides| slides.then_some(window)).collect());
    }
    if let Some(pattern) = keys.size(PATTERN)?.filter(|&pattern| pattern != 2) {
        return Err(ModelError::unsupported(keys.name(PATTERN), pattern, "2, or a boolean for each layer"));
    }
    Ok((0..layers).map(|layer| layer.is_multiple_of(2).then_some(window)).collect())
}

fn head_dim(keys: &Keys<'_>, hidden_size: usize, heads: usize) -> Result<usize, ModelError> {
    let head_dim = match keys.size("attention.key_length")? {
        Some(length) => length,
        None => hidden_size.checked_div(heads).unwrap_or(0),
    };
    for key in ["attention.value_length", "rope.dimension_count"] {
        if let Some(length) = keys.size(key)?.filter(|&length| length != head_dim) {
            return Err(ModelError::unsupported(
                keys.name(key),
                length,
                format!("the head dimension, {head_dim}"),
            ));
        }
    }
    Ok(head_dim)
}

fn rope(
    keys: &Keys<'_>,
    architecture: Architecture,
    tensors: &[GgufTensor],
    bytes: &Bytes,
    head_dim: usize,
    max_positions: usize,
) -> Result<RopeSpec, ModelError> {
    let theta = keys.number("rope.freq_base")?.unwrap_or(10_000.0);
    if let Some(tensor) = tensors.iter().find(|tensor| tensor.name == ROPE_FACTORS) {
        if tensor.shape != [head_dim / 2] {
            let (name, found) = (tensor.name.clone(), tensor.shape.clone());
            return Err(ModelError::TensorShape { name, found, expected: vec![head_dim / 2] });
        }
        let mut factors = vec![0.0; head_dim / 2];
        dequantize(tensor.format, bytes.slice(tensor.range.clone())?.as_slice(), &mut factors)?;
        return Ok(RopeSpec::from_factors(theta, factors));
    }
    let factor = match keys.number("rope.scaling.factor")? {
        Some(factor) => factor,
        None => keys.number("rope.scale_linear")?.unwrap_or(1.0),
    };
    let kind = match keys.text("rope.scaling.type") {
        Some(kind) => kind,
        None if factor == 1.0 => "none",
        None => "linear",
    };
    let scaling = match kind {
        "none" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor },
        "yarn" => RopeScaling::Yarn {
            factor,
            beta_fast: keys.number("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
            beta_slow: keys.number("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            original_max_positions: keys
                .size("rope.scaling.original_context_length")?
                .unwrap_or(max_positions),
            attention_factor: keys.number("rope.scaling.attn_factor")?.unwrap_or(1.0)
                * (0.1 * factor.ln() + 1.0),
            truncate: keys.flag(YARN_TRUNCATE)?.unwrap_or(architecture != Architecture::GptOss),
        },
        other => {
            return Err(ModelError::unsupported(keys.name("rope.scaling.type"), other, "none, linear, yarn"));
        }
    };
    Ok(RopeSpec { theta, scaling })
}

/// Metadata below the architecture's prefix.
struct Keys<'a> {
    metadata: &'a Metadata,
    prefix: &'a str,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("metadata key {}.{key}", self.prefix)
    }

    fn missing(&self, key: &str, expected: &str) -> ModelError {
        ModelError::missing(self.name(key), expected)
    }

    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.metadata.text(&self.full(key))
    }

    fn size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.metadata.size(&self.full(key))
    }

    fn required_size(&self, key: &str) -> Result<usize, ModelError> {
        self.metadata.required_size(&self.full(key))
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        self.metadata.flag(&self.full(key))
    }

    fn number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        self.metadata.number(&self.full(key))
    }

    fn size_per_layer(&self, key: &str, layers: usize) -> Result<Option<Vec<usize>>, ModelError> {
        self.metadata.size_per_layer(&self.full(key), layers)
    }

    fn required_size_per_layer(&self, key: &str, layers: usize) -> Result<Vec<usize>, ModelError> {
        self.size_per_layer(key, layers)?
            .ok_or_else(|| self.missing(key, "a whole number or one for each layer"))
    }
}
