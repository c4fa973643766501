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
/// A query head takes `head_dim` rows of the query projection, its part of the query bias and `head_dim` columns of the
/// output projection. A key/value group takes its heads and its rows of the key and value projections. A channel takes a
/// row of gate, a row of up and a column of down.
#[must_use]
pub fn unit_parameters(spec: &ModelSpec, layer: &LayerSpec, unit: Unit) -> Option<u64> {
    let (hidden, head_dim) = (spec.hidden_size as u64, spec.head_dim as u64);
    let bias = if layer.attention_bias { head_dim } else { 0 };
    let head = 2 * head_dim * hidden + bias;
    let group = layer.group_size() as u64 * head + 2 * (head_dim * hidden + bias);
    match unit {
        // What a mixture's units weigh is not told before they can be cut.
        _ if layer.experts.is_some() => None,
        Unit::Head => Some(head),
        Unit::KvGroup => Some(group),
        Unit::FfnChannel => Some(3 * hidden),
        Unit::Layer => {
            let output_bias = if layer.output_bias { hidden } else { 0 };
            let attention = layer.kv_heads as u64 * group + output_bias;
            Some(attention + layer.ffn_size as u64 * 3 * hidden + 2 * hidden)
        }
        Unit::Expert | Unit::ExpertChannel => None,
    }
}

/// Sizes of a validated specification are far below 2³².
fn narrow(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
