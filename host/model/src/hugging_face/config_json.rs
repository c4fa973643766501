//! A [`ModelSpec`] as the `config.json` that transformers loads.

use serde_json::{Map, Value, json};

use super::per_layer::{self, Shapes};
use super::rope::rope_scaling_json;
use crate::error::ModelError;
use crate::spec::{Activation, Architecture, LayerSpec, ModelSpec};

/// A configuration that transformers loads, or states shapes that only this program reads where those are allowed.
///
/// # Errors
/// What transformers can't express, unless `shapes` allows it: layers of unequal shape, Llama heads that don't divide
/// the hidden size. Always: listed rotary factors.
pub(super) fn config_json(
    spec: &ModelSpec,
    dtype: &str,
    mxfp4_experts: bool,
    shapes: Shapes,
) -> Result<Value, ModelError> {
    let not_uniform = per_layer::not_uniform(spec);
    let states_layers = not_uniform.is_some();
    match not_uniform {
        Some(reason) if shapes == Shapes::Uniform => return Err(reason),
        _ => {}
    }
    let Some(layer) = spec.layers.first() else { return Err(ModelError::missing("layers", "at least one")) };
    let mut config = json!({
        "architectures": [spec.architecture.class_name()],
        "model_type": spec.architecture.model_type(),
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "intermediate_size": layer.ffn_size,
        "num_hidden_layers": spec.layers.len(),
        "num_attention_heads": layer.heads,
        "num_key_value_heads": layer.kv_heads,
        "head_dim": spec.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": spec.max_positions,
        "rms_norm_eps": shortest(spec.rms_norm_eps),
        "rope_theta": spec.rope.theta,
        "rope_scaling": rope_scaling_json(spec.architecture, &spec.rope.scaling)?,
        "tie_word_embeddings": spec.tie_word_embeddings,
        "bos_token_id": spec.bos,
        "eos_token_id": match spec.eos.as_slice() { [] => Value::Null, [id] => json!(id), ids => json!(ids) },
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": true,
        "torch_dtype": dtype,
    });
    if let Value::Object(config) = &mut config {
        if states_layers {
            config.insert(per_layer::FIELD.into(), per_layer::to_json(spec));
        }
        match spec.architecture {
            Architecture::Qwen2 => config.extend(qwen2_fields(spec)),
            Architecture::GptOss => config.extend(gpt_oss_fields(spec, layer, mxfp4_experts)),
            Architecture::Llama => {
                config.insert("attention_bias".into(), layer.attention_bias.into());
                config.insert("mlp_bias".into(), false.into());
            }
        }
    }
    Ok(config)
}

fn qwen2_fields(spec: &ModelSpec) -> Map<String, Value> {
    let window = spec.layers.iter().find_map(|layer| layer.sliding_window);
    let mut fields = Map::new();
    fields.insert("use_sliding_window".into(), window.is_some().into());
    if let Some(window) = window {
        fields.insert("sliding_window".into(), window.into());
        fields.insert("layer_types".into(), layer_types(spec));
    }
    fields
}

fn gpt_oss_fields(spec: &ModelSpec, layer: &LayerSpec, mxfp4_experts: bool) -> Map<String, Value> {
    let window = spec.layers.iter().find_map(|layer| layer.sliding_window);
    let (alpha, limit) = match spec.activation {
        Activation::ClampedSwiglu { alpha, limit } => (alpha, limit),
        Activation::Silu => (0.0, 0.0),
    };
    let experts = layer.experts.map_or((0, 0), |experts| (experts.count, experts.active));
    let fields = json!({
        "num_local_experts": experts.0,
        "num_experts_per_tok": experts.1,
        "experts_per_token": experts.1,
        "attention_bias": layer.attention_bias,
        "sliding_window": window,
        "layer_types": layer_types(spec),
        "swiglu_alpha": shortest(alpha),
        "swiglu_limit": shortest(limit),
        "router_aux_loss_coef": 0.9,
        "output_router_logits": false,
    });
    let Value::Object(mut fields) = fields else { return Map::new() };
    if mxfp4_experts {
        let unconverted =
            ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"];
        let quantization = json!({ "quant_method": "mxfp4", "modules_to_not_convert": unconverted });
        fields.insert("quantization_config".into(), quantization);
    }
    fields
}

fn layer_types(spec: &ModelSpec) -> Value {
    let kind = |layer: &LayerSpec| {
        if layer.sliding_window.is_some() { "sliding_attention" } else { "full_attention" }
    };
    spec.layers.iter().map(kind).collect()
}

/// The decimal that a person would write: 1e-5 and not 9.999999747378752e-6.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}
