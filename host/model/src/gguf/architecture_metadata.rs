//! A model's shape as GGUF metadata: the inverse of [`super::architecture`].

use super::architecture::{GPT_OSS_ACTIVATION, YARN_TRUNCATE};
use super::metadata::Metadata;
use super::value::{Array, Value};
use crate::error::ModelError;
use crate::spec::{Activation, Architecture, LayerSpec, ModelSpec, RopeScaling};
use crate::tensor_plan::TensorPlan;

/// Keys below the architecture's prefix, and what says which that is.
pub(super) fn architecture_metadata(
    spec: &ModelSpec,
    tensors: &[TensorPlan],
) -> Result<Metadata, ModelError> {
    require_one_shape_of_experts(spec)?;
    let mut metadata = Metadata::default();
    let prefix = spec.architecture.gguf_name();
    metadata.insert("general.architecture".into(), Value::String(prefix.into()))?;
    metadata.insert("general.type".into(), Value::String("model".into()))?;
    if tensors.iter().any(|plan| plan.format.block_values() > 1) {
        metadata.insert("general.quantization_version".into(), Value::U32(2))?;
    }
    let mut put = |key: &str, value: Value| metadata.insert(format!("{prefix}.{key}"), value);
    put("block_count", number("number of layers", spec.layers.len())?)?;
    put("context_length", number("maximum of positions", spec.max_positions)?)?;
    put("embedding_length", number("hidden size", spec.hidden_size)?)?;
    put("vocab_size", number("vocabulary size", spec.vocab_size)?)?;
    put("feed_forward_length", per_layer(spec.layers.iter().map(|layer| layer.ffn_size))?)?;
    put("attention.head_count", per_layer(spec.layers.iter().map(|layer| layer.heads))?)?;
    put("attention.head_count_kv", per_layer(spec.layers.iter().map(|layer| layer.kv_heads))?)?;
    put("attention.key_length", number("head dimension", spec.head_dim)?)?;
    put("attention.value_length", number("head dimension", spec.head_dim)?)?;
    put("attention.layer_norm_rms_epsilon", Value::F32(spec.rms_norm_eps))?;
    put("rope.dimension_count", number("head dimension", spec.head_dim)?)?;
    put("rope.freq_base", Value::F32(spec.rope.theta as f32))?;
    match &spec.rope.scaling {
        RopeScaling::Linear { factor } => {
            put("rope.scaling.type", Value::String("linear".into()))?;
            put("rope.scaling.factor", Value::F32(*factor as f32))?;
        }
        RopeScaling::Yarn {
            factor,
            beta_fast,
            beta_slow,
            original_max_positions,
            attention_factor,
            truncate,
        } => {
            if !truncate && spec.architecture != Architecture::GptOss {
                // llama.cpp always rounds the ramp outward, so the file would mean another model there.
                return Err(ModelError::unsupported("YaRN in GGUF with truncate", false, "true"));
            }
            if *truncate && spec.architecture == Architecture::GptOss {
                put(YARN_TRUNCATE, Value::Bool(true))?;
            }
            put("rope.scaling.type", Value::String("yarn".into()))?;
            put("rope.scaling.factor", Value::F32(*factor as f32))?;
            let original = number("original maximum of positions", *original_max_positions)?;
            put("rope.scaling.original_context_length", original)?;
            put("rope.scaling.yarn_beta_fast", Value::F32(*beta_fast as f32))?;
            put("rope.scaling.yarn_beta_slow", Value::F32(*beta_slow as f32))?;
            let implied = 0.1 * factor.ln() + 1.0;
            put("rope.scaling.attn_factor", Value::F32((attention_factor / implied) as f32))?;
        }
        RopeScaling::None | RopeScaling::Llama3 { .. } | RopeScaling::Factors { .. } => {}
    }
    if let Some(experts) = spec.layers.first().and_then(|layer| layer.experts) {
        put("expert_count", number("experts", experts.count)?)?;
        put("expert_used_count", number("experts of a token", experts.active)?)?;
        put("expert_feed_forward_length", per_layer(spec.layers.iter().map(|layer| layer.ffn_size))?)?;
    }
    if let Some(window) = spec.layers.iter().find_map(|layer| layer.sliding_window) {
        if spec.architecture != Architecture::GptOss {
            let found = format!("of {window} for {prefix}");
            return Err(ModelError::unsupported("sliding window in GGUF", found, "none, or gpt-oss's"));
        }
        put("attention.sliding_window", number("sliding window", window)?)?;
        let slides: Vec<bool> = spec.layers.iter().map(|layer| layer.sliding_window.is_some()).collect();
        if slides.iter().enumerate().any(|(index, &slides)| slides != index.is_multiple_of(2)) {
            put("attention.sliding_window_pattern", Value::Array(Array::Bool(slides)))?;
        }
    }
    match spec.activation {
        Activation::ClampedSwiglu { .. } if spec.activation != GPT_OSS_ACTIVATION => {
            let found = format!("{:?}", spec.activation);
            let supported = "alpha 1.702 and limit 7, which programs that read it have built in";
            Err(ModelError::unsupported("clamped SwiGLU in GGUF:", found, supported))
        }
        Activation::ClampedSwiglu { .. } | Activation::Silu => Ok(metadata),
    }
}

/// GGUF has one number of experts, and llama.cpp one of heads and channels where there are experts.
fn require_one_shape_of_experts(spec: &ModelSpec) -> Result<(), ModelError> {
    let Some(first) = spec.layers.first().filter(|layer| layer.experts.is_some()) else { return Ok(()) };
    let shape = |layer: &LayerSpec| {
        let experts = layer.experts.map_or(0, |experts| experts.count);
        let LayerSpec { heads, kv_heads, ffn_size, .. } = layer;
        format!("{experts} experts of {ffn_size} channels, {heads} query heads, {kv_heads} key/value heads")
    };
    let expected = shape(first);
    match spec.layers.iter().map(shape).enumerate().find(|(_, found)| *found != expected) {
        Some((layer, found)) => {
            let supported = format!("{expected}, as in layer 0");
            Err(ModelError::unsupported(format!("layer {layer} in GGUF with"), found, supported))
        }
        None => Ok(()),
    }
}

fn number(what: &str, value: usize) -> Result<Value, ModelError> {
    u32::try_from(value).map(Value::U32).map_err(|_| ModelError::argument(what, value, "a number of 32 bits"))
}

/// One number if all layers agree, else one for each.
fn per_layer(values: impl Iterator<Item = usize>) -> Result<Value, ModelError> {
    let numbers: Vec<u32> = values
        .map(|value| {
            u32::try_from(value)
                .map_err(|_| ModelError::argument("layer's size", value, "a number of 32 bits"))
        })
        .collect::<Result<_, _>>()?;
    Ok(match numbers.as_slice() {
        [first, rest @ ..] if rest.iter().all(|number| number == first) => Value::U32(*first),
        _ => Value::Array(Array::U32(numbers)),
    })
}
