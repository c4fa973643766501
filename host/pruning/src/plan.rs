//! The plan: which units go, what that costs and saves, and what it was derived from.
//!
//! A plan is data. It can be written, read by a person, changed, checked against a model and applied, each on its own;
//! [`plan`](crate::plan()) makes one and [`surgery`](crate::surgery()) applies one.

mod allocation;
mod constraints;
mod counts;
mod depth;
mod document;
mod layer;
mod loaders;
mod planner;
mod ranking;
mod selection;
mod space;
mod target;

use espalier_components::{AblatedUnit, Unit};
use espalier_model::ModelSpec;
use espalier_state::Digest;
use serde::{Deserialize, Serialize};

pub use self::constraints::{Constraints, Layout};
pub(crate) use self::document::reviewable_json;
pub use self::layer::{ExpertChannels, LayerPlan};
pub(crate) use self::planner::units;
pub use self::planner::{PlanRequest, plan};
pub use self::selection::Selection;
pub(crate) use self::space::{Choice, Space, spread};
pub use self::target::{Count, Target};
use crate::calibration::CalibrationRecord;
use crate::error::PruningError;
use crate::size::Size;
use crate::storage::Storage;

/// The version of the plan document; raised when a reader of an older version would misread it.
pub const PLAN_VERSION: u32 = 3;

/// The policy component that scored the units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyReference {
    /// The component's name.
    pub name: String,
    /// The component's version.
    pub version: String,
    /// SHA-256 of the component's bytes.
    pub digest: Digest,
}

/// The units that go, with the predicted cost before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// What was asked to stay.
    pub target: Target,
    /// The kinds of units that were allowed to go.
    pub units: Vec<Unit>,
    /// What the plan respects.
    pub constraints: Constraints,
    /// Who scored the units, each kind by the first that scores it; none in a plan that removes nothing.
    pub policies: Vec<PolicyReference>,
    /// What the scores were measured on; absent where nothing was measured.
    pub calibration: Option<CalibrationRecord>,
    /// The number formats that `bytes` are counted in and that surgery writes.
    pub storage: Storage,
    /// The model before, counted in the same storage.
    pub before: Size,
    /// The model after.
    pub after: Size,
    /// One entry per layer.
    pub layers: Vec<LayerPlan>,
}

impl Plan {
    /// A plan that removes nothing: applying it converts the checkpoint, so that a comparison with a pruned one is
    /// made at equal format. A plan made by hand begins with this one.
    #[must_use]
    pub fn unchanged(spec: &ModelSpec, storage: Storage) -> Self {
        let size = Size::of(spec, &storage);
        let layers = spec.layers.iter().enumerate().map(|(index, layer)| LayerPlan::unchanged(index, layer));
        Self {
            version: PLAN_VERSION,
            target: Target::default(),
            units: Vec::new(),
            constraints: Constraints::default(),
            policies: Vec::new(),
            calibration: None,
            storage,
            before: size,
            after: size,
            layers: layers.collect(),
        }
    }

    /// Whether no unit goes.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        self.layers.iter().all(LayerPlan::is_unchanged)
    }

    /// The share of parameters that stays, as planned.
    #[must_use]
    pub fn kept_share(&self) -> f64 {
        self.after.parameters as f64 / self.before.parameters.max(1) as f64
    }

    /// Indices of the layers that stay, ascending.
    #[must_use]
    pub fn kept_layers(&self) -> Vec<usize> {
        self.layers.iter().filter(|layer| !layer.removed).map(|layer| layer.layer).collect()
    }

    /// The specification of the model after surgery.
    ///
    /// # Errors
    /// [`PruningError::PlanMismatch`] when the plan was made for another model, or was edited into something that
    /// cannot be cut: indices out of order or range, key/value groups of unequal size, experts of unequal width, fewer
    /// experts than a token passes through, a layer left without any head or channel, or sizes that do not follow from
    /// the units. [`PruningError::LoaderRule`] for a result that the loaders which the plan's layout names refuse.
    pub fn apply_to(&self, spec: &ModelSpec) -> Result<ModelSpec, PruningError> {
        expect("the version", self.version, PLAN_VERSION)?;
        expect("the number of layers", self.layers.len(), spec.layers.len())?;
        let mut pruned = spec.clone();
        pruned.layers.clear();
        for (index, (plan, layer)) in self.layers.iter().zip(&spec.layers).enumerate() {
            expect(&format!("the index of layer {index}"), plan.layer, index)?;
            pruned.layers.extend(plan.apply_to(layer, &self.constraints)?);
        }
        if pruned.layers.is_empty() {
            return Err(mismatch("the list of layers that stay", "empty", "at least one layer"));
        }
        loaders::check(spec, &pruned, &self.storage, &self.constraints)?;
        if self.constraints.lossless {
            self.check_lossless()?;
        }
        expect("parameters before", self.before.parameters, Size::of(spec, &self.storage).parameters)?;
        expect("parameters after", self.after.parameters, Size::of(&pruned, &self.storage).parameters)?;
        Ok(pruned)
    }

    /// Channels of MXFP4 experts go in whole blocks, or their neighbours' codes would change.
    fn check_lossless(&self) -> Result<(), PruningError> {
        let block = constraints::channel_block(&self.constraints, &self.storage);
        for layer in self.layers.iter().filter(|layer| !layer.removed) {
            for entry in &layer.expert_channels {
                if !entry.channels.is_in_blocks_of(block) {
                    let what =
                        format!("the removed channels of expert {} of layer {}", entry.expert, layer.layer);
                    let expected = format!(
                        "aligned groups of {block}, the block of MXFP4, or the constraint \"lossless\": false"
                    );
                    return Err(mismatch(what, "single channels", expected));
                }
            }
        }
        Ok(())
    }

    /// Every unit that goes, whole layers without what is in them.
    #[must_use]
    pub fn removed_units(&self) -> Vec<AblatedUnit> {
        self.layers.iter().flat_map(LayerPlan::removed_units).collect()
    }
}

fn expect<T: PartialEq + std::fmt::Display>(what: &str, found: T, expected: T) -> Result<(), PruningError> {
    if found == expected {
        return Ok(());
    }
    Err(mismatch(what, found, expected))
}

fn mismatch(what: impl Into<String>, found: impl ToString, expected: impl ToString) -> PruningError {
    PruningError::PlanMismatch { what: what.into(), found: found.to_string(), expected: expected.to_string() }
}
