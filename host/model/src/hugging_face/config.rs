//! `config.json`: HF's description of a model, to a [`ModelSpec`] and back.

use serde_json::{Map, Value, json};

use super::Fields;
use crate::error::ModelError;
use crate::spec::{Activation, Architecture, LayerSpec, ModelSpec, RopeScaling, RopeSpec};
use crate::tokenizer::token_ids;

const SUPPORTED: [Architecture; 2] = [Architecture::Llama, Architecture::Qwen2];
/// More layers than any model has; it bounds what a lying configuration can make us allocate.
const MOST_LAYERS: usize = 4096;

/// Reads a configuration; absent fields have transformers' defaults.
pub(crate) fn spec_from_config(config: &Map<String, Value>) -> Result<ModelSpec, ModelError> {
    let fields = Fields::new(config);
    let architecture = architecture(fields)?;
    refuse_what_would_change_the_arithmetic(fields)?;
    let hidden_size = fields.required_size("hidden_size")?;
    let heads = fields.required_size("num_attention_heads")?;
    let head_dim = match fields.size("head_dim")? {
        Some(size) => size,
        None => hidden_size.checked_div(heads).unwrap_or(0),
    };
    let max_positions = fields.size("max_position_embeddings")?.unwrap_or(match architecture {
        Architecture::Qwen2 => 32_768,
        _ => 2048,
    });
    let attention_bias = match architecture {
        Architecture::Qwen2 => true,
        _ => fields.flag("attention_bias")?.unwrap_or(false),
    };
    let layer = LayerSpec {
        heads,
        kv_heads: fields.size("num_key_value_heads")?.unwrap_or(heads),
        ffn_size: fields.required_size("intermediate_size")?,
        attention_bias,
        output_bias: attention_bias && architecture == Architecture::Llama,
        sliding_window: None,
    };
    let count = fields.required_size("num_hidden_layers")?;
    if count == 0 || count > MOST_LAYERS {
        return Err(ModelError::malformed("field num_hidden_layers", count, format!("1 to {MOST_LAYERS}")));
    }
    let windows = sliding_windows(fields, count)?;
    let layers =
        windows.into_iter().map(|sliding_window| LayerSpec { sliding_window, ..layer.clone() }).collect();
    let mut eos = token_ids(fields.get("eos_token_id"));
    eos.sort_unstable();
    eos.dedup();
    let spec = ModelSpec {
        architecture,
        hidden_size,
        vocab_size: fields.required_size("vocab_size")?,
        head_dim,
        layers,
        rms_norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6) as f32,
        rope: rope(fields, max_positions)?,
        max_positions,
        tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        bos: token_ids(fields.get("bos_token_id")).first().copied(),
        eos,
        add_bos: false,
        activation: Activation::Silu,
    };
    spec.validate()?;
    Ok(spec)
}

fn architecture(fields: Fields<'_>) -> Result<Architecture, ModelError> {
    let classes = fields.texts("architectures")?.unwrap_or_default();
    let found = match (classes.first(), fields.text("model_type")?) {
        (Some(&class), _) => SUPPORTED.into_iter().find(|known| known.class_name() == class).ok_or(class),
        (None, Some(kind)) => SUPPORTED.into_iter().find(|known| known.model_type() == kind).ok_or(kind),
        (None, None) => return Err(fields.missing("architectures", "a list with the model's class")),
    };
    found.map_err(|name| {
        let supported = SUPPORTED.map(Architecture::class_name).join(", ");
        ModelError::unsupported("architecture", name, supported)
    })
}

fn refuse_what_would_change_the_arithmetic(fields: Fields<'_>) -> Result<(), ModelError> {
    if let Some(quantization) = fields.object("quantization_config", "quantization_config.")? {
        let method = quantization.text("quant_method")?.unwrap_or("unnamed");
        return Err(ModelError::unsupported("quantization method", method, "unquantized F32, F16, BF16"));
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

/// The window of each layer. Qwen2 names a window even where it doesn't use it.
fn sliding_windows(fields: Fields<'_>, layers: usize) -> Result<Vec<Option<usize>>, ModelError> {
    let used = fields.flag("use_sliding_window")?.unwrap_or(false);
    let window = fields.size("sliding_window")?.filter(|_| used);
    let Some(window) = window else { return Ok(vec![None; layers]) };
    match fields.texts("layer_types")? {
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

/// `rope_theta` and `rope_scaling` of transformers 4, or `rope_parameters` of transformers 5, which has both.
fn rope(fields: Fields<'_>, max_positions: usize) -> Result<RopeSpec, ModelError> {
    let scaling = match fields.object("rope_parameters", "rope_parameters.")? {
        Some(parameters) => Some(parameters),
        None => fields.object("rope_scaling", "rope_scaling.")?,
    };
    let inner_theta = scaling.map(|scaling| scaling.number("rope_theta")).transpose()?.flatten();
    let theta = match inner_theta {
        Some(theta) => theta,
        None => fields.number("rope_theta")?.unwrap_or(10_000.0),
    };
    let Some(scaling) = scaling else { return Ok(RopeSpec { theta, scaling: RopeScaling::None }) };
    if let Some(factor) = scaling.number("partial_rotary_factor")?.filter(|&factor| factor != 1.0) {
        return Err(ModelError::unsupported(scaling.label("partial_rotary_factor"), factor, "1"));
    }
    let kind = match scaling.text("rope_type")? {
        Some(kind) => kind,
        None => scaling.text("type")?.unwrap_or("default"),
    };
    let original_max_positions = match fields.size("original_max_position_embeddings")? {
        Some(positions) => positions,
        None => scaling.size("original_max_position_embeddings")?.unwrap_or(max_positions),
    };
    let scaling = match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: scaling.required_number("factor")? },
        "llama3" => RopeScaling::Llama3 {
            factor: scaling.required_number("factor")?,
            low_freq_factor: scaling.required_number("low_freq_factor")?,
            high_freq_factor: scaling.required_number("high_freq_factor")?,
            original_max_positions,
        },
        "yarn" => {
            let factor = match scaling.number("factor")? {
                Some(factor) => factor,
                None => max_positions as f64 / original_max_positions as f64,
            };
            RopeScaling::Yarn {
                factor,
                beta_fast: scaling.number("beta_fast")?.unwrap_or(32.0),
                beta_slow: scaling.number("beta_slow")?.unwrap_or(1.0),
                original_max_positions,
                attention_factor: yarn_attention_factor(scaling, factor)?,
                truncate: scaling.flag("truncate")?.unwrap_or(true),
            }
        }
        other => {
            return Err(ModelError::unsupported(
                scaling.label("rope_type"),
                other,
                "default, linear, llama3, yarn",
            ));
        }
    };
    Ok(RopeSpec { theta, scaling })
}

fn yarn_attention_factor(scaling: Fields<'_>, factor: f64) -> Result<f64, ModelError> {
    if let Some(stated) = scaling.number("attention_factor")? {
        return Ok(stated);
    }
    let magnitude = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
    Ok(match (scaling.number("mscale")?, scaling.number("mscale_all_dim")?) {
        (Some(scale), Some(all)) if scale != 0.0 && all != 0.0 => magnitude(scale) / magnitude(all),
        _ => magnitude(1.0),
    })
}

/// A configuration that transformers loads.
///
/// # Errors
/// What transformers can't express: layers of unequal shape, Llama heads that don't divide the hidden size, listed
/// rotary factors.
pub(crate) fn config_json(spec: &ModelSpec, dtype: &str) -> Result<Value, ModelError> {
    let layer = uniform_layer(spec)?;
    if spec.architecture == Architecture::Llama && !spec.hidden_size.is_multiple_of(layer.heads) {
        let expected =
            format!("a divisor of the hidden size {}, which transformers demands of Llama", spec.hidden_size);
        return Err(ModelError::unsupported("number of query heads", layer.heads, expected));
    }
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
        "rope_scaling": rope_scaling(&spec.rope.scaling)?,
        "tie_word_embeddings": spec.tie_word_embeddings,
        "bos_token_id": spec.bos,
        "eos_token_id": match spec.eos.as_slice() { [] => Value::Null, [id] => json!(id), ids => json!(ids) },
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": true,
        "torch_dtype": dtype,
    });
    if let Value::Object(config) = &mut config {
        match spec.architecture {
            Architecture::Qwen2 => config.extend(sliding_fields(spec)),
            _ => {
                config.insert("attention_bias".into(), layer.attention_bias.into());
                config.insert("mlp_bias".into(), false.into());
            }
        }
    }
    Ok(config)
}

fn sliding_fields(spec: &ModelSpec) -> Map<String, Value> {
    let window = spec.layers.iter().find_map(|layer| layer.sliding_window);
    let mut fields = Map::new();
    fields.insert("use_sliding_window".into(), window.is_some().into());
    if let Some(window) = window {
        let kind = |layer: &LayerSpec| {
            if layer.sliding_window.is_some() { "sliding_attention" } else { "full_attention" }
        };
        fields.insert("sliding_window".into(), window.into());
        fields.insert("layer_types".into(), spec.layers.iter().map(kind).collect());
    }
    fields
}

/// The shape that all layers have.
fn uniform_layer(spec: &ModelSpec) -> Result<&LayerSpec, ModelError> {
    let Some(first) = spec.layers.first() else { return Err(ModelError::missing("layers", "at least one")) };
    let counts = |layer: &LayerSpec| [layer.heads, layer.kv_heads, layer.ffn_size];
    for (index, layer) in spec.layers.iter().enumerate() {
        if counts(layer) != counts(first) || layer.attention_bias != first.attention_bias {
            let shape = |layer: &LayerSpec| {
                format!(
                    "{} query heads, {} key/value heads, {} channels",
                    layer.heads, layer.kv_heads, layer.ffn_size
                )
            };
            let expected =
                format!("{}, as in layer 0: HF's configuration has one shape for all layers", shape(first));
            return Err(ModelError::unsupported(format!("layer {index} with"), shape(layer), expected));
        }
    }
    Ok(first)
}

fn rope_scaling(scaling: &RopeScaling) -> Result<Value, ModelError> {
    Ok(match scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_max_positions,
        }),
        RopeScaling::Yarn {
            factor,
            beta_fast,
            beta_slow,
            original_max_positions,
            attention_factor,
            truncate,
        } => {
            json!({
                "rope_type": "yarn",
                "factor": factor,
                "beta_fast": beta_fast,
                "beta_slow": beta_slow,
                "original_max_position_embeddings": original_max_positions,
                "attention_factor": attention_factor,
                "truncate": truncate,
            })
        }
        RopeScaling::Factors { .. } => {
            let supported = "default, linear, llama3, yarn in HF's configuration";
            return Err(ModelError::unsupported("rope scaling", "by listed factors", supported));
        }
    })
}

/// The decimal that a person would write: 1e-5 and not 9.999999747378752e-6.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}
