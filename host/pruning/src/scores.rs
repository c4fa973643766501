//! How important each unit is, as a policy sees it: one number per unit, low goes first.

use std::collections::BTreeMap;

use espalier_model::ModelSpec;
use serde::{Deserialize, Serialize};

use crate::error::PruningError;
use crate::unit::unit_count;
use espalier_components::Unit;

/// Scores by unit kind, layer and index: `[unit][layer][index]`.
///
/// Only comparisons inside one layer are meaningful; a policy need not make layers comparable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scores {
    by_unit: BTreeMap<Unit, Vec<Vec<f64>>>,
}

impl Scores {
    /// No scores at all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the scores of one kind, `[layer][index]`, replacing earlier ones.
    pub fn insert(&mut self, unit: Unit, layers: Vec<Vec<f64>>) {
        self.by_unit.insert(unit, layers);
    }

    /// The scores of one kind, `[layer][index]`.
    #[must_use]
    pub fn get(&self, unit: Unit) -> Option<&[Vec<f64>]> {
        self.by_unit.get(&unit).map(Vec::as_slice)
    }

    /// The scores of one kind, checked: one list per layer, one finite number per unit.
    ///
    /// # Errors
    /// [`PruningError::ScoresMissing`], [`PruningError::ScoreCount`] or [`PruningError::ScoreNotFinite`].
    pub fn checked(&self, unit: Unit, spec: &ModelSpec) -> Result<&[Vec<f64>], PruningError> {
        let layers = self.get(unit).ok_or(PruningError::ScoresMissing { unit })?;
        if layers.len() != spec.layers.len() {
            return Err(PruningError::ScoreCount {
                place: unit.name().to_owned(),
                found: layers.len(),
                expected: spec.layers.len(),
            });
        }
        for (layer, scores) in layers.iter().enumerate() {
            let expected = spec.layers.get(layer).map_or(0, |layer| unit_count(unit, layer));
            if scores.len() != expected {
                return Err(PruningError::ScoreCount {
                    place: format!("{unit} in layer {layer}"),
                    found: scores.len(),
                    expected,
                });
            }
            if let Some((index, &found)) = scores.iter().enumerate().find(|(_, score)| !score.is_finite()) {
                return Err(PruningError::ScoreNotFinite { unit, layer, index, found });
            }
        }
        Ok(layers)
    }
}
