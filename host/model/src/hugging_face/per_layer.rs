//! Layers of unequal shape in `config.json`: an object `espalier` beside HF's fields, which only this program reads.
//!
//! HF's configuration has one number of heads, channels and experts for all layers. A model whose layers differ states
//! them one by one, `"espalier": {"heads": [8, 6], "kv_heads": [2, 2], "ffn_size": [96, 64], "experts": [8, 7]}`, and
//! layer 0's in HF's own fields, so that other programs refuse its tensors instead of computing something else.

use serde_json::{Value, json};

use super::Fields;
use crate::error::ModelError;
use crate::spec::{Architecture, LayerSpec, ModelSpec};

/// The field of `config.json`.
pub(super) const FIELD: &str = "espalier";

const SIZES: [&str; 4] = ["heads", "kv_heads", "ffn_size", "experts"];

/// Which shapes a directory may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shapes {
    /// Those that transformers loads: all layers alike, and Llama's heads a divisor of the hidden size.
    #[default]
    Uniform,
    /// Any, stated layer by layer where transformers couldn't load them.
    PerLayer,
}

/// Why transformers can't load the shape of this model, if it can't.
pub(super) fn not_uniform(spec: &ModelSpec) -> Option<ModelError> {
    let first = spec.layers.first()?;
    let counts = |layer: &LayerSpec| [layer.heads, layer.kv_heads, layer.ffn_size];
    for (index, layer) in spec.layers.iter().enumerate() {
        if counts(layer) != counts(first)
            || layer.attention_bias != first.attention_bias
            || layer.experts != first.experts
        {
            let expected =
                format!("{}, as in layer 0: HF's configuration has one shape for all layers", shape(first));
            return Some(ModelError::unsupported(format!("layer {index} with"), shape(layer), expected));
        }
    }
    if spec.architecture == Architecture::Llama && !spec.hidden_size.is_multiple_of(first.heads) {
        let expected =
            format!("a divisor of the hidden size {}, which transformers demands of Llama", spec.hidden_size);
        return Some(ModelError::unsupported("number of query heads", first.heads, expected));
    }
    None
}

fn shape(layer: &LayerSpec) -> String {
    let LayerSpec { heads, kv_heads, ffn_size, .. } = layer;
    let experts = layer.experts.map_or_else(String::new, |experts| format!(", {} experts", experts.count));
    format!("{heads} query heads, {kv_heads} key/value heads, {ffn_size} channels{experts}")
}

/// The object for a model that transformers can't load.
pub(super) fn to_json(spec: &ModelSpec) -> Value {
    let list = |size: fn(&LayerSpec) -> usize| spec.layers.iter().map(size).collect::<Vec<_>>();
    let mut object = json!({
        "heads": list(|layer| layer.heads),
        "kv_heads": list(|layer| layer.kv_heads),
        "ffn_size": list(|layer| layer.ffn_size),
    });
    if spec.layers.iter().any(|layer| layer.experts.is_some())
        && let Value::Object(object) = &mut object
    {
        let experts = list(|layer| layer.experts.map_or(0, |experts| experts.count));
        object.insert("experts".into(), experts.into());
    }
    object
}

/// Gives `layers` their own shapes if the configuration states them.
///
/// # Errors
/// A list of another length, a size that isn't one, or a field that isn't known here.
pub(super) fn read(fields: Fields<'_>, layers: &mut [LayerSpec]) -> Result<(), ModelError> {
    let Some(object) = fields.object(FIELD, "espalier.")? else { return Ok(()) };
    if let Some(name) = object.names().find(|name| !SIZES.contains(name)) {
        return Err(ModelError::unsupported(object.label(name), "", SIZES.join(", ")));
    }
    for name in SIZES {
        let Some(sizes) = object.sizes(name)? else { continue };
        if sizes.len() != layers.len() {
            let found = format!("{} entries", sizes.len());
            return Err(ModelError::malformed(object.label(name), found, format!("{}", layers.len())));
        }
        for (layer, size) in layers.iter_mut().zip(sizes) {
            match (name, &mut layer.experts) {
                ("heads", _) => layer.heads = size,
                ("kv_heads", _) => layer.kv_heads = size,
                ("ffn_size", _) => layer.ffn_size = size,
                (_, Some(experts)) => experts.count = size,
                (_, None) => {
                    let expected = "an architecture with experts";
                    return Err(ModelError::malformed(object.label(name), "experts", expected));
                }
            }
        }
    }
    Ok(())
}
