//! What components are told of a model: its shape and what each of its units weighs.

use std::collections::BTreeMap;

use espalier_components::{LayerFacts, ModelFacts, Unit};
use espalier_model::{LayerSpec, ModelSpec};

/// The shape of a model in the components' words.
#[must_use]
pub fn model_facts(spec: &ModelSpec) -> ModelFacts {
    ModelFacts {
        architecture: spec.architecture.model_type().to_owned(),
        hidden_size: narrow(spec.hidden_size),
        vocab_size: narrow(spec.vocab_size),
        head_dim: narrow(spec.head_dim),
        layers: spec
            .layers
            .iter()
            .map(|layer| LayerFacts {
                heads: narrow(layer.heads),
                kv_heads: narrow(layer.kv_heads),
                ffn_size: narrow(layer.ffn_size),
                experts: narrow(layer.experts.map_or(0, |experts| experts.count)),
                active_experts: narrow(layer.experts.map_or(0, |experts| experts.active)),
                sliding_window: layer.sliding_window.map(narrow),
                attention_sinks: layer.attention_sinks,
                parameters_per_unit: Unit::ALL
                    .into_iter()
                    .filter_map(|unit| Some((unit, unit_parameters(spec, layer, unit)?)))
                    .collect::<BTreeMap<_, _>>(),
            })
            .collect(),
    }
}

/// Parameters that go with one unit of `layer`; none where the layer has no such unit.
///
/// A query head takes `head_dim` rows of the query projection, its part of the query bias, `head_dim` columns of the
/// output projection and its sink. A key/value group takes its heads and its rows of the key and value projections. A
/// channel takes a row of gate, a row of up and a column of down, and in an expert the biases of the first two. An
/// expert takes its matrices and biases, and its row of the router with its bias. A layer takes all of its tensors.
#[must_use]
pub fn unit_parameters(spec: &ModelSpec, layer: &LayerSpec, unit: Unit) -> Option<u64> {
    let (hidden, head_dim) = (spec.hidden_size as u64, spec.head_dim as u64);
    let bias = if layer.attention_bias { head_dim } else { 0 };
    let head = 2 * head_dim * hidden + bias + u64::from(layer.attention_sinks);
    let group = layer.group_size() as u64 * head + 2 * (head_dim * hidden + bias);
    let ffn_size = layer.ffn_size as u64;
    let expert_channel = 3 * hidden + 2;
    let expert = ffn_size * expert_channel + hidden + hidden + 1;
    match (unit, layer.experts) {
        (Unit::Head, _) => Some(head),
        (Unit::KvGroup, _) => Some(group),
        (Unit::FfnChannel, None) => Some(3 * hidden),
        (Unit::Expert, Some(_)) => Some(expert),
        (Unit::ExpertChannel, Some(_)) => Some(expert_channel),
        (Unit::FfnChannel, Some(_)) | (Unit::Expert | Unit::ExpertChannel, None) => None,
        (Unit::Layer, experts) => {
            let output_bias = if layer.output_bias { hidden } else { 0 };
            let attention = layer.kv_heads as u64 * group + output_bias;
            let feed_forward =
                experts.map_or_else(|| ffn_size * 3 * hidden, |experts| experts.count as u64 * expert);
            Some(attention + feed_forward + 2 * hidden)
        }
    }
}

/// Sizes of a validated specification are far below 2³².
fn narrow(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
