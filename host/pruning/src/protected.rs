//! Units that must stay, whatever a policy says of them.

use espalier_components::Unit;
use espalier_model::ModelSpec;
use serde::{Deserialize, Serialize};

use crate::error::PruningError;
use crate::plan::Plan;
use crate::scores::Scores;
use crate::unit::unit_count;

/// Units of one kind that must stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protected {
    /// Their kind. A protected `layer` does not go as a whole; what is in it may.
    pub unit: Unit,
    /// The layers they are in; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<usize>>,
    /// Their indices in each of those layers; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub indices: Option<Vec<usize>>,
}

impl Protected {
    /// Whether it names this unit.
    #[must_use]
    pub fn holds(&self, unit: Unit, layer: usize, index: usize) -> bool {
        let named = |list: &Option<Vec<usize>>, value| list.as_ref().is_none_or(|list| list.contains(&value));
        self.unit == unit && named(&self.layers, layer) && named(&self.indices, index)
    }

    /// Refuses layers and indices that the model does not have.
    ///
    /// # Errors
    /// [`PruningError::Protected`] with the first of them.
    pub fn check(&self, spec: &ModelSpec) -> Result<(), PruningError> {
        let refused = |what: &str, found: usize, count: usize| {
            Err(PruningError::Protected {
                what: format!("{what} {found} is named among protected units of the kind {}", self.unit),
                expected: format!("one below {count}, which this model has"),
            })
        };
        let layers = spec.layers.len();
        if let Some(&layer) = self.layers.iter().flatten().find(|&&layer| layer >= layers) {
            return refused("layer", layer, layers);
        }
        for (index, layer) in spec.layers.iter().enumerate() {
            let count = unit_count(self.unit, layer);
            let named = self.layers.as_ref().is_none_or(|layers| layers.contains(&index));
            if let Some(&unit) = self.indices.iter().flatten().find(|&&unit| named && unit >= count) {
                return refused("index", unit, count);
            }
        }
        Ok(())
    }
}

/// How many of a layer's units of one kind are protected.
pub(crate) fn protected_count(protected: &[Protected], unit: Unit, layer: usize, count: usize) -> usize {
    (0..count).filter(|&index| protected.iter().any(|entry| entry.holds(unit, layer, index))).count()
}

/// Puts protected units above all others of their layer, or of the model where whole layers go.
///
/// # Errors
/// Layers and indices that the model does not have.
pub(crate) fn raise(
    protected: &[Protected],
    scores: &mut Scores,
    spec: &ModelSpec,
) -> Result<(), PruningError> {
    for entry in protected {
        entry.check(spec)?;
        let Some(layers) = scores.get(entry.unit) else { continue };
        let mut layers = layers.to_vec();
        let most = |scores: &mut dyn Iterator<Item = f64>| scores.fold(f64::NEG_INFINITY, f64::max);
        let of_model = most(&mut layers.iter().flatten().copied());
        for (layer, scores) in layers.iter_mut().enumerate() {
            let of_layer = most(&mut scores.iter().copied());
            let above = if entry.unit == Unit::Layer { of_model } else { of_layer }.next_up();
            for (index, score) in scores.iter_mut().enumerate() {
                if entry.holds(entry.unit, layer, index) && above.is_finite() {
                    *score = above;
                }
            }
        }
        scores.insert(entry.unit, layers);
    }
    Ok(())
}

/// Refuses a plan that removes a protected unit, as happens when the target leaves too few.
pub(crate) fn verify(protected: &[Protected], plan: &Plan) -> Result<(), PruningError> {
    let mut removed = plan.removed_units().into_iter();
    let found =
        removed.find(|unit| protected.iter().any(|entry| entry.holds(unit.unit, unit.layer, unit.index)));
    match found {
        None => Ok(()),
        Some(unit) => Err(PruningError::Protected {
            what: format!("{} {} of layer {} is protected, but would go", unit.unit, unit.index, unit.layer),
            expected: "a target that leaves room for it; the layout \"espalier\" lets layers differ"
                .to_owned(),
        }),
    }
}
