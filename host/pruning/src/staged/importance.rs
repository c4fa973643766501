//! A policy's scores in few figures, for a map that a person looks at.

use espalier_components::Unit;
use serde::{Deserialize, Serialize};

use crate::scores::Scores;

/// Columns of a map, at most.
const COLUMNS: usize = 64;

/// The scores of one kind: a row for each layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Importance {
    /// The kind.
    pub unit: Unit,
    /// Units of a layer.
    pub units: usize,
    /// For each layer the mean scores of so many equally large groups of its units, which are taken by falling score where
    /// there are more units than columns: what a layer has of important units and of others is seen then.
    pub layers: Vec<Vec<f64>>,
}

impl Importance {
    pub(super) fn of(scores: &Scores) -> Vec<Self> {
        let kinds = Unit::ALL.into_iter().filter_map(|unit| Some((unit, scores.get(unit)?)));
        let of_kind = |(unit, layers): (Unit, &[Vec<f64>])| Self {
            unit,
            units: layers.iter().map(Vec::len).max().unwrap_or(0),
            layers: layers.iter().map(|scores| columns(scores)).collect(),
        };
        kinds.map(of_kind).collect()
    }
}

fn columns(scores: &[f64]) -> Vec<f64> {
    if scores.len() <= COLUMNS {
        return scores.to_vec();
    }
    let mut falling = scores.to_vec();
    falling.sort_by(|a, b| b.total_cmp(a));
    let edge = |column: usize| column * falling.len() / COLUMNS;
    let group = |column: usize| falling.get(edge(column)..edge(column + 1)).unwrap_or_default();
    (0..COLUMNS).map(|column| group(column).iter().sum::<f64>() / group(column).len().max(1) as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_units_stand_for_themselves_and_many_by_falling_score() {
        let mut scores = Scores::new();
        scores.insert(Unit::Head, vec![vec![2.0, 3.0, 1.0]]);
        scores.insert(Unit::FfnChannel, vec![(0..128).map(f64::from).collect()]);
        let found = Importance::of(&scores);
        assert_eq!(found[0].layers, [[2.0, 3.0, 1.0]]);
        let channels = &found[1].layers[0];
        assert_eq!((channels.len(), channels[0], channels[63]), (64, 126.5, 0.5));
    }
}
