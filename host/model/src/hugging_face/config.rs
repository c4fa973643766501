//! `config.json`, HF's description of a model, as a [`ModelSpec`].

use serde_json::{Map, Value};

use super::rope::rope_from_config;
use super::{Fields, per_layer};
use crate::error::ModelError;
use crate::spec::{Activation, Architecture, ExpertsSpec, LayerSpec, ModelSpec};
use crate::tokenizer::token_ids;

/// More layers than any model has; it bounds what a lying configuration can make us allocate.
const MOST_LAYERS: usize = 4096;

/// Reads a configuration; absent fields have transformers' defaults.
pub(crate) fn spec_from_config(config: &Map<String, Value>) -> Result<ModelSpec, ModelError> {
    let fields = Fields::new(config);
    let architecture = architecture(fields)?;
    refuse_what_would_change_the_arithmetic(fields, architecture)?;
    let hidden_size = fields.required_size("hidden_size")?;
    let heads = fields.required_size("num_attention_heads")?;
    let head_dim = match fields.size("head_dim")? {
        Some(size) => size,
        None => hidden_size.checked_div(heads).unwrap_or(0),
    };
    let max_positions = fields.size("max_position_embeddings")?.unwrap_or(match architecture {
        Architecture::Llama => 2048,
        Architecture::Qwen2 => 32_768,
        Architecture::GptOss => 131_072,
    });
    let attention_bias = match architecture {
        Architecture::Llama => fields.flag("attention_bias")?.unwrap_or(false),
        Architecture::Qwen2 => true,
        Architecture::GptOss => fields.flag("attention_bias")?.unwrap_or(true),
    };
    let gpt_oss = architecture == Architecture::GptOss;
    let layer = LayerSpec {
        heads,
        kv_heads: fields.size("num_key_value_heads")?.unwrap_or(heads),
        ffn_size: fields.required_size("intermediate_size")?,
        attention_bias,
        output_bias: attention_bias && architecture != Architecture::Qwen2,
        sliding_window: None,
        attention_sinks: gpt_oss,
        experts: if gpt_oss { Some(experts(fields)?) } else { None },
    };
    let windows = sliding_windows(fields, architecture, layer_count(fields)?)?;
    let mut layers: Vec<LayerSpec> =
        windows.into_iter().map(|sliding_window| LayerSpec { sliding_window, ..layer.clone() }).collect();
    per_layer::read(fields, &mut layers)?;
    let mut eos = token_ids(fields.get("eos_token_id"));
    eos.sort_unstable();
    eos.dedup();
    let spec = ModelSpec {
        architecture,
        hidden_size,
        vocab_size: fields.required_size("vocab_size")?,
        head_dim,
        layers,
        rms_norm_eps: fields.number("rms_norm_eps")?.unwrap_or(if gpt_oss { 1e-5 } else { 1e-6 }) as f32,
        rope: rope_from_config(fields, architecture, max_positions)?,
        max_positions,
        tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        bos: token_ids(fields.get("bos_token_id")).first().copied(),
        eos,
        add_bos: false,
        activation: if gpt_oss { clamped_swiglu(fields)? } else { Activation::Silu },
    };
    spec.validate()?;
    Ok(spec)
}

/// Number of layers, before anything is allocated for them.
pub(super) fn layer_count(fields: Fields<'_>) -> Result<usize, ModelError> {
    let count = fields.required_size("num_hidden_layers")?;
    if count == 0 || count > MOST_LAYERS {
        return Err(ModelError::malformed("field num_hidden_layers", count, format!("1 to {MOST_LAYERS}")));
    }
    Ok(count)
}

fn architecture(fields: Fields<'_>) -> Result<Architecture, ModelError> {
    let classes = fields.texts("architectures")?.unwrap_or_default();
    let found = match (classes.first(), fields.text("model_type")?) {
        (Some(&class), _) => {
            Architecture::ALL.into_iter().find(|known| known.class_name() == class).ok_or(class)
        }
        (None, Some(kind)) => {
            Architecture::ALL.into_iter().find(|known| known.model_type() == kind).ok_or(kind)
        }
        (None, None) => return Err(fields.missing("architectures", "a list with the model's class")),
    };
    found.map_err(|name| {
        let supported = Architecture::ALL.map(Architecture::class_name).join(", ");
        ModelError::unsupported("architecture", name, supported)
    })
}

fn refuse_what_would_change_the_arithmetic(
    fields: Fields<'_>,
    architecture: Architecture,
) -> Result<(), ModelError> {
    if let Some(quantization) = fields.object("quantization_config", "quantization_config.")? {
        let method = quantization.text("quant_method")?.unwrap_or("unnamed");
        if architecture != Architecture::GptOss || method != "mxfp4" {
            let supported = "unquantized F32, F16, BF16, and mxfp4 for the experts of gpt-oss";
            return Err(ModelError::unsupported("quantization method", method, supported));
        }
    }
    if let Some(activation) = fields.text("hidden_act")?.filter(|&name| name != "silu") {
        return Err(ModelError::unsupported("field hidden_act:", activation, "silu"));
    }
    if fields.flag("mlp_bias")? == Some(true) {
        return Err(ModelError::unsupported("field mlp_bias:", true, "false"));
    }
    if let Some(factor) = fields.number("partial_rotary_factor")?.filter(|&factor| factor != 1.0) {
        return Err(ModelError::unsupported("field partial_rotary_factor:", factor, "1"));
    }
    Ok(())
}

fn experts(fields: Fields<'_>) -> Result<ExpertsSpec, ModelError> {
    // The attribute that transformers maps the first name to, and the one that OpenAI's own file has.
    let count = match fields.size("num_local_experts")? {
        Some(count) => count,
        None => fields.required_size("num_experts")?,
    };
    let active = match fields.size("num_experts_per_tok")? {
        Some(active) => active,
        None => fields.size("experts_per_token")?.unwrap_or(4),
    };
    Ok(ExpertsSpec { count, active })
}

fn clamped_swiglu(fields: Fields<'_>) -> Result<Activation, ModelError> {
    let alpha = fields.number("swiglu_alpha")?.unwrap_or(1.702) as f32;
    let limit = fields.number("swiglu_limit")?.unwrap_or(7.0) as f32;
    Ok(Activation::ClampedSwiglu { alpha, limit })
}

/// The window of each layer. Qwen2 names a window even where it doesn't use it; gpt-oss slides on every other layer,
/// the first included.
fn sliding_windows(
    fields: Fields<'_>,
    architecture: Architecture,
    layers: usize,
) -> Result<Vec<Option<usize>>, ModelError> {
    let window = fields.size("sliding_window")?;
    let window = match architecture {
        Architecture::Llama => None,
        Architecture::Qwen2 if fields.flag("use_sliding_window")? == Some(true) => window,
        Architecture::Qwen2 => None,
        Architecture::GptOss => Some(window.unwrap_or(128)),
    };
    let Some(window) = window else { return Ok(vec![None; layers]) };
    match fields.texts("layer_types")? {
        None if architecture == Architecture::GptOss => {
            Ok((0..layers).map(|layer| layer.is_multiple_of(2).then_some(window)).collect())
        }
        None => {
            let first = fields.size("max_window_layers")?.unwrap_or(28);
            Ok((0..layers).map(|layer| (layer >= first).then_some(window)).collect())
        }
        Some(types) if types.len() != layers => Err(ModelError::malformed(
            "field layer_types",
            format!("{} entries", types.len()),
            format!("{layers}"),
        )),
        Some(types) => types
            .into_iter()
            .map(|kind| match kind {
                "full_attention" => Ok(None),
                "sliding_attention" => Ok(Some(window)),
                other => {
                    let supported = "full_attention, sliding_attention";
                    Err(ModelError::unsupported("field layer_types:", other, supported))
                }
            })
            .collect(),
    }
}
