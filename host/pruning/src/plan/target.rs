//! How much is to stay: a share of the parameters, counts, or some of each.

use std::collections::BTreeMap;

use espalier_components::Unit;
use serde::{Deserialize, Serialize};

/// What is asked to stay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    /// The share of *all* parameters of the model that may stay, in (0, 1]. A plan never keeps more; it keeps as little
    /// less as whole units of the kinds without a count allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<f64>,
    /// How many units of a kind stay: layers of the model; in every layer query heads (those of all groups that stay),
    /// key/value groups, feed-forward channels or experts; channels of every expert.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<Unit, Count>,
}

impl Target {
    /// A share and no counts.
    #[must_use]
    pub const fn share(keep: f64) -> Self {
        Self { keep: Some(keep), counts: BTreeMap::new() }
    }

    /// Counts and no share.
    #[must_use]
    pub fn counts<const N: usize>(counts: [(Unit, usize); N]) -> Self {
        let counts = counts.into_iter().map(|(unit, count)| (unit, Count::Uniform(count)));
        Self { keep: None, counts: counts.collect() }
    }
}

/// How many units stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a count, or a list with one count for each layer")]
pub enum Count {
    /// The same in every layer.
    Uniform(usize),
    /// One for each layer of the model before, which only the layout `espalier` permits.
    PerLayer(Vec<usize>),
}
