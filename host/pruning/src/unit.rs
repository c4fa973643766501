//! Which units of which architecture can be cut.

use espalier_components::Unit;
use espalier_model::{Architecture, LayerSpec, ModelSpec};

use crate::error::PruningError;

/// How many units of this kind a layer has; 0 for kinds that a plan cannot hold yet.
#[must_use]
pub const fn unit_count(unit: Unit, layer: &LayerSpec) -> usize {
    match unit {
        Unit::Head => layer.heads,
        Unit::FfnChannel => layer.ffn_size,
        _ => 0,
    }
}

/// Refuses kinds that surgery cannot cut from this model.
///
/// # Errors
/// [`PruningError::UnitUnsupported`] with the architecture and the kinds that it can lose.
pub fn check_supported(unit: Unit, spec: &ModelSpec) -> Result<(), PruningError> {
    let supported: &[Unit] = match spec.architecture {
        Architecture::Llama | Architecture::Qwen2 => &[Unit::Head, Unit::FfnChannel],
        _ => &[],
    };
    if supported.contains(&unit) {
        return Ok(());
    }
    let architecture = spec.architecture.model_type();
    Err(PruningError::UnitUnsupported { unit, architecture, supported })
}
