//! Which units of which architecture can be cut.

use espalier_components::Unit;
use espalier_model::{Architecture, LayerSpec, ModelSpec};

use crate::error::PruningError;

/// How many units of this kind a layer has. Channels of experts count through all experts of the layer, expert 0's
/// first.
#[must_use]
pub const fn unit_count(unit: Unit, layer: &LayerSpec) -> usize {
    match (unit, layer.experts) {
        (Unit::Layer, _) => 1,
        (Unit::Head, _) => layer.heads,
        (Unit::KvGroup, _) => layer.kv_heads,
        (Unit::FfnChannel, None) => layer.ffn_size,
        (Unit::Expert, Some(experts)) => experts.count,
        (Unit::ExpertChannel, Some(experts)) => experts.count * layer.ffn_size,
        (Unit::FfnChannel, Some(_)) | (Unit::Expert | Unit::ExpertChannel, None) => 0,
    }
}

/// Refuses kinds that this model does not have.
///
/// # Errors
/// [`PruningError::UnitUnsupported`] with the architecture and the kinds that it can lose.
pub fn check_supported(unit: Unit, spec: &ModelSpec) -> Result<(), PruningError> {
    let supported: &[Unit] = match spec.architecture {
        Architecture::Llama | Architecture::Qwen2 => {
            &[Unit::Layer, Unit::Head, Unit::KvGroup, Unit::FfnChannel]
        }
        Architecture::GptOss => &[Unit::Layer, Unit::Head, Unit::KvGroup, Unit::Expert, Unit::ExpertChannel],
        _ => &[],
    };
    if supported.contains(&unit) {
        return Ok(());
    }
    let architecture = spec.architecture.model_type();
    Err(PruningError::UnitUnsupported { unit, architecture, supported })
}
