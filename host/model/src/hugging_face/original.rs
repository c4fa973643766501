//! OpenAI's own form of gpt-oss (`original/` beside HF's files): other names, q, k and v in one matrix, and a
//! configuration of its own.

use serde_json::{Map, Value};

use super::{Fields, StoredValues};
use crate::error::ModelError;
use crate::spec::{Activation, Architecture, ExpertsSpec, LayerSpec, ModelSpec, RopeScaling, RopeSpec};

/// Whether a `config.json` is of this form: it names no architecture, and scales rotations in OpenAI's words.
pub(super) fn is_original(config: &Map<String, Value>) -> bool {
    !config.contains_key("architectures")
        && !config.contains_key("model_type")
        && config.contains_key("rope_ntk_beta")
}

/// Reads the configuration; the constants that it leaves out are those of OpenAI's model code.
pub(super) fn spec(config: &Map<String, Value>) -> Result<ModelSpec, ModelError> {
    let fields = Fields::new(config);
    let window = fields.required_size("sliding_window")?;
    let layer = LayerSpec {
        heads: fields.required_size("num_attention_heads")?,
        kv_heads: fields.required_size("num_key_value_heads")?,
        ffn_size: fields.required_size("intermediate_size")?,
        attention_bias: true,
        output_bias: true,
        sliding_window: None,
        attention_sinks: true,
        experts: Some(ExpertsSpec {
            count: fields.required_size("num_experts")?,
            active: fields.required_size("experts_per_token")?,
        }),
    };
    let layers = super::config::layer_count(fields)?;
    let original_max_positions = fields.required_size("initial_context_length")?;
    let factor = fields.required_number("rope_scaling_factor")?;
    let (beta_fast, beta_slow) =
        (fields.required_number("rope_ntk_beta")?, fields.required_number("rope_ntk_alpha")?);
    let spec = ModelSpec {
        architecture: Architecture::GptOss,
        hidden_size: fields.required_size("hidden_size")?,
        vocab_size: fields.required_size("vocab_size")?,
        head_dim: fields.required_size("head_dim")?,
        layers: (0..layers)
            .map(|index| LayerSpec {
                sliding_window: index.is_multiple_of(2).then_some(window),
                ..layer.clone()
            })
            .collect(),
        rms_norm_eps: 1e-5,
        rope: RopeSpec {
            theta: fields.required_number("rope_theta")?,
            scaling: RopeScaling::gpt_oss(factor, beta_fast, beta_slow, original_max_positions),
        },
        max_positions: (original_max_positions as f64 * factor) as usize,
        tie_word_embeddings: false,
        bos: None,
        eos: Vec::new(),
        add_bos: false,
        activation: Activation::ClampedSwiglu {
            alpha: 1.702,
            limit: fields.number("swiglu_limit")?.unwrap_or(7.0) as f32,
        },
    };
    spec.validate()?;
    Ok(spec)
}

/// Names outside the layers, and HF's.
const OUTSIDE: [(&str, &str); 3] = [
    ("embedding.weight", "model.embed_tokens.weight"),
    ("norm.scale", "model.norm.weight"),
    ("unembedding.weight", "lm_head.weight"),
];

/// Names inside `block.N.`, and HF's inside `model.layers.N.`.
const INSIDE: [(&str, &str); 13] = [
    ("attn.norm.scale", "input_layernorm.weight"),
    ("attn.out.weight", "self_attn.o_proj.weight"),
    ("attn.out.bias", "self_attn.o_proj.bias"),
    ("attn.sinks", "self_attn.sinks"),
    ("mlp.norm.scale", "post_attention_layernorm.weight"),
    ("mlp.gate.weight", "mlp.router.weight"),
    ("mlp.gate.bias", "mlp.router.bias"),
    ("mlp.mlp1_weight.blocks", "mlp.experts.gate_up_proj_blocks"),
    ("mlp.mlp1_weight.scales", "mlp.experts.gate_up_proj_scales"),
    ("mlp.mlp1_bias", "mlp.experts.gate_up_proj_bias"),
    ("mlp.mlp2_weight.blocks", "mlp.experts.down_proj_blocks"),
    ("mlp.mlp2_weight.scales", "mlp.experts.down_proj_scales"),
    ("mlp.mlp2_bias", "mlp.experts.down_proj_bias"),
];

/// The same tensors under HF's names, q, k and v apart. Unknown names stay, to be refused by name later.
pub(super) fn rename(stored: Vec<StoredValues>, spec: &ModelSpec) -> Result<Vec<StoredValues>, ModelError> {
    let mut renamed = Vec::with_capacity(stored.len());
    for mut tensor in stored {
        if let Some(&(_, hf)) = OUTSIDE.iter().find(|(known, _)| *known == tensor.name) {
            hf.clone_into(&mut tensor.name);
        } else if let Some((layer, inside)) = in_block(&tensor.name) {
            if let Some(kind) = inside.strip_prefix("attn.qkv.") {
                renamed.extend(split_qkv(&tensor, layer, kind, spec)?);
                continue;
            }
            if let Some(&(_, hf)) = INSIDE.iter().find(|&&(known, _)| known == inside) {
                tensor.name = format!("model.layers.{layer}.{hf}");
            }
        }
        renamed.push(tensor);
    }
    Ok(renamed)
}

fn in_block(name: &str) -> Option<(usize, &str)> {
    let (layer, inside) = name.strip_prefix("block.")?.split_once('.')?;
    Some((layer.parse().ok()?, inside))
}

/// Rows of q, then k, then v, of a matrix or a bias.
fn split_qkv(
    tensor: &StoredValues,
    layer: usize,
    kind: &str,
    spec: &ModelSpec,
) -> Result<Vec<StoredValues>, ModelError> {
    let heads = spec.layers.get(layer).map_or((0, 0), |layer| (layer.heads, layer.kv_heads));
    let sizes =
        [("q", heads.0 * spec.head_dim), ("k", heads.1 * spec.head_dim), ("v", heads.1 * spec.head_dim)];
    let total: usize = sizes.iter().map(|(_, rows)| rows).sum();
    let (rows, columns) = tensor.shape.split_first().map_or((0, &[][..]), |(&rows, columns)| (rows, columns));
    if rows != total || total == 0 {
        let expected = [[total].as_slice(), columns].concat();
        return Err(ModelError::TensorShape {
            name: tensor.name.clone(),
            found: tensor.shape.clone(),
            expected,
        });
    }
    let row_bytes = tensor.bytes.len() / rows;
    let mut start = 0;
    sizes
        .into_iter()
        .map(|(projection, rows)| {
            let bytes = tensor.bytes.slice(start * row_bytes..(start + rows) * row_bytes)?;
            start += rows;
            Ok(StoredValues {
                name: format!("model.layers.{layer}.self_attn.{projection}_proj.{kind}"),
                dtype: tensor.dtype,
                shape: [[rows].as_slice(), columns].concat(),
                bytes,
            })
        })
        .collect()
}
