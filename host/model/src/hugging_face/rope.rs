//! The rotary embedding in `config.json`, in the spellings of transformers 4 and 5.

use serde_json::{Value, json};

use super::Fields;
use crate::error::ModelError;
use crate::spec::{Architecture, RopeScaling, RopeSpec};

/// `rope_theta` and `rope_scaling` of transformers 4, or `rope_parameters` of transformers 5, which has both.
pub(super) fn rope_from_config(
    fields: Fields<'_>,
    architecture: Architecture,
    max_positions: usize,
) -> Result<RopeSpec, ModelError> {
    let default_theta = if architecture == Architecture::GptOss { 150_000.0 } else { 10_000.0 };
    let scaling = match fields.object("rope_parameters", "rope_parameters.")? {
        Some(parameters) => Some(parameters),
        None => fields.object("rope_scaling", "rope_scaling.")?,
    };
    let inner_theta = scaling.map(|scaling| scaling.number("rope_theta")).transpose()?.flatten();
    let theta = match inner_theta {
        Some(theta) => theta,
        None => fields.number("rope_theta")?.unwrap_or(default_theta),
    };
    let Some(scaling) = scaling else {
        let gpt_oss = architecture == Architecture::GptOss;
        let scaling = if gpt_oss { RopeScaling::gpt_oss(32.0, 32.0, 1.0, 4096) } else { RopeScaling::None };
        return Ok(RopeSpec { theta, scaling });
    };
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
    Ok(match (scaling.number("mscale")?, scaling.number("mscale_all_dim")?) {
        (Some(scale), Some(all)) if scale != 0.0 && all != 0.0 => {
            magnitude(factor, scale) / magnitude(factor, all)
        }
        _ => magnitude(factor, 1.0),
    })
}

/// YaRN's factor on cos and sin.
fn magnitude(factor: f64, scale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 }
}

/// `rope_scaling` as both versions read it. Without scaling a gpt-oss says so: null would be read as its own default.
///
/// # Errors
/// Listed factors, which it can't express.
pub(super) fn rope_scaling_json(
    architecture: Architecture,
    scaling: &RopeScaling,
) -> Result<Value, ModelError> {
    Ok(match scaling {
        RopeScaling::None if architecture == Architecture::GptOss => json!({ "rope_type": "default" }),
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
            let mut scaling = json!({
                "rope_type": "yarn",
                "factor": factor,
                "beta_fast": beta_fast,
                "beta_slow": beta_slow,
                "original_max_position_embeddings": original_max_positions,
                "truncate": truncate,
            });
            // Left out where the formula gives it, as in the published files: other programs' converters read a stated
            // factor in more than one sense.
            if *attention_factor != magnitude(*factor, 1.0)
                && let Value::Object(fields) = &mut scaling
            {
                fields.insert("attention_factor".into(), json!(attention_factor));
            }
            scaling
        }
        RopeScaling::Factors { .. } => {
            let supported = "default, linear, llama3, yarn in HF's configuration";
            return Err(ModelError::unsupported("rope scaling", "by listed factors", supported));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_scaling_is_read_back_as_none() {
        for architecture in [Architecture::Llama, Architecture::Qwen2, Architecture::GptOss] {
            let written = rope_scaling_json(architecture, &RopeScaling::None).unwrap();
            let config = json!({ "rope_scaling": written });
            let fields = Fields::new(config.as_object().unwrap());
            let found = rope_from_config(fields, architecture, 4096).unwrap();
            assert_eq!(found.scaling, RopeScaling::None, "{architecture:?}");
        }
    }
}
