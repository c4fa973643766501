//! The plan: which units go, what that costs and saves, and what it was derived from.
//!
//! A plan is data. It can be written, read by a person, changed, checked against a model and applied, each on its own;
//! [`plan`](crate::plan()) makes one and [`surgery`](crate::surgery()) applies one.

mod allocation;
mod document;
mod planner;
mod ranking;

use espalier_components::Unit;
use espalier_model::ModelSpec;
use espalier_state::Digest;
use serde::{Deserialize, Serialize};

pub(crate) use self::document::reviewable_json;
pub use self::planner::{PlanRequest, plan};
use crate::calibration::CalibrationRecord;
use crate::error::PruningError;
use crate::size::{Size, StorageType};

/// The version of the plan document; raised when a reader of an older version would misread it.
pub const PLAN_VERSION: u32 = 1;

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

/// What a plan must respect beside its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Constraints {
    /// The number of feed-forward channels kept is a multiple of this (or all of them). Block formats quantise 32
    /// consecutive columns of the down projection together, K-quants 256.
    pub ffn_channel_multiple: usize,
    /// Query heads that stay in every key/value group, at least 1.
    pub min_heads_per_group: usize,
    /// The number of query heads kept divides the hidden size. The reference implementation of Llama refuses to load
    /// any other count, although it would compute correctly.
    pub heads_divide_hidden_size: bool,
}

impl Default for Constraints {
    fn default() -> Self {
        Self { ffn_channel_multiple: 32, min_heads_per_group: 1, heads_divide_hidden_size: true }
    }
}

/// The units of one kind in one layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Units before.
    pub count: usize,
    /// Indices of the units that go, ascending.
    pub removed: Vec<usize>,
}

impl Selection {
    /// All of `count` units stay.
    #[must_use]
    pub fn everything(count: usize) -> Self {
        Self { count, removed: Vec::new() }
    }

    /// Indices of the units that stay, ascending.
    #[must_use]
    pub fn kept(&self) -> Vec<usize> {
        ranking::complement(self.count, &self.removed)
    }

    /// Number of units that stay.
    #[must_use]
    pub fn kept_count(&self) -> usize {
        self.count.saturating_sub(self.removed.len())
    }

    fn is_ascending_and_in_range(&self) -> bool {
        self.removed.is_sorted_by(|earlier, later| earlier < later)
            && self.removed.last().is_none_or(|&last| last < self.count)
    }
}

/// What goes from one layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerPlan {
    /// The layer's index in the model before.
    pub layer: usize,
    /// Query heads.
    pub heads: Selection,
    /// Feed-forward channels.
    pub ffn_channels: Selection,
}

/// The units that go, with the predicted cost before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// The share of the model's parameters that was asked to stay.
    pub keep: f64,
    /// The kinds of units that were allowed to go.
    pub units: Vec<Unit>,
    /// What the plan respects.
    pub constraints: Constraints,
    /// Who scored the units; absent in a plan that removes nothing.
    pub policy: Option<PolicyReference>,
    /// What the scores were measured on; absent in a plan that removes nothing.
    pub calibration: Option<CalibrationRecord>,
    /// The number format that `bytes` are counted in and that surgery writes.
    pub storage: StorageType,
    /// The model before, counted in the same storage type.
    pub before: Size,
    /// The model after.
    pub after: Size,
    /// One entry per layer.
    pub layers: Vec<LayerPlan>,
}

impl Plan {
    /// A plan that removes nothing: applying it converts the checkpoint, so that a comparison with a pruned one is
    /// made at equal format.
    #[must_use]
    pub fn unchanged(spec: &ModelSpec, storage: StorageType) -> Self {
        let size = Size::of(spec, storage);
        let layers = spec
            .layers
            .iter()
            .enumerate()
            .map(|(index, layer)| LayerPlan {
                layer: index,
                heads: Selection::everything(layer.heads),
                ffn_channels: Selection::everything(layer.ffn_size),
            })
            .collect();
        Self {
            version: PLAN_VERSION,
            keep: 1.0,
            units: Vec::new(),
            constraints: Constraints::default(),
            policy: None,
            calibration: None,
            storage,
            before: size,
            after: size,
            layers,
        }
    }

    /// Whether no unit goes.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        self.layers
            .iter()
            .all(|layer| layer.heads.removed.is_empty() && layer.ffn_channels.removed.is_empty())
    }

    /// The share of parameters that stays, as planned.
    #[must_use]
    pub fn kept_share(&self) -> f64 {
        self.after.parameters as f64 / self.before.parameters.max(1) as f64
    }

    /// The specification of the model after surgery.
    ///
    /// # Errors
    /// [`PruningError::PlanMismatch`] when the plan was made for another model, or was edited into something that
    /// cannot be cut: indices out of order or range, key/value groups of unequal size, a layer left without any head
    /// or channel, layers that differ, or sizes that do not follow from the units.
    pub fn apply_to(&self, spec: &ModelSpec) -> Result<ModelSpec, PruningError> {
        expect("the version", self.version, PLAN_VERSION)?;
        expect("the number of layers", self.layers.len(), spec.layers.len())?;
        let mut pruned = spec.clone();
        for (index, (plan, layer)) in self.layers.iter().zip(&mut pruned.layers).enumerate() {
            expect(&format!("the index of layer {index}"), plan.layer, index)?;
            check_selection(&format!("heads of layer {index}"), &plan.heads, layer.heads)?;
            check_selection(&format!("ffn_channels of layer {index}"), &plan.ffn_channels, layer.ffn_size)?;
            check_groups(index, &plan.heads, layer.kv_heads)?;
            layer.heads = plan.heads.kept_count();
            layer.ffn_size = plan.ffn_channels.kept_count();
        }
        if let Some(first) = pruned.layers.first() {
            let (heads, channels) = (first.heads, first.ffn_size);
            for (index, layer) in pruned.layers.iter().enumerate() {
                expect(&format!("the number of heads kept in layer {index}"), layer.heads, heads)?;
                expect(&format!("the number of channels kept in layer {index}"), layer.ffn_size, channels)?;
            }
        }
        expect("parameters before", self.before.parameters, Size::of(spec, self.storage).parameters)?;
        expect("parameters after", self.after.parameters, Size::of(&pruned, self.storage).parameters)?;
        Ok(pruned)
    }
}

fn expect<T: PartialEq + std::fmt::Display>(what: &str, found: T, expected: T) -> Result<(), PruningError> {
    if found == expected {
        return Ok(());
    }
    Err(PruningError::PlanMismatch {
        what: what.to_owned(),
        found: found.to_string(),
        expected: expected.to_string(),
    })
}

fn check_selection(what: &str, selection: &Selection, count: usize) -> Result<(), PruningError> {
    expect(&format!("the count of {what}"), selection.count, count)?;
    let mismatch = |found: &str, expected: &str| PruningError::PlanMismatch {
        what: format!("the removed list of {what}"),
        found: found.to_owned(),
        expected: expected.to_owned(),
    };
    if !selection.is_ascending_and_in_range() {
        return Err(mismatch("out of order or range", &format!("ascending indices below {count}")));
    }
    if count > 0 && selection.kept_count() == 0 {
        return Err(mismatch("everything", "at least one unit that stays"));
    }
    Ok(())
}

/// Every key/value head must keep the same number of query heads, or the survivors would read another head's keys.
fn check_groups(layer: usize, heads: &Selection, kv_heads: usize) -> Result<(), PruningError> {
    if heads.removed.is_empty() {
        return Ok(());
    }
    let group = heads.count.checked_div(kv_heads).unwrap_or(0).max(1);
    let mut kept = vec![0_usize; heads.count.div_ceil(group)];
    for head in heads.kept() {
        if let Some(count) = kept.get_mut(head / group) {
            *count += 1;
        }
    }
    let first = kept.first().copied().unwrap_or(0);
    match kept.iter().position(|&count| count != first) {
        None => Ok(()),
        Some(other) => expect(
            &format!("the number of heads kept in key/value group {other} of layer {layer}"),
            kept.get(other).copied().unwrap_or(0),
            first,
        ),
    }
}
