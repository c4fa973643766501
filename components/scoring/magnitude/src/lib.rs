//! Magnitude: a unit whose weights are small matters little.
//!
//! The score is the sum of squares of all weights of the matrices that go with the unit (the L2 variant of LLM-Pruner's
//! magnitude importance, Ma, Fang and Wang, arXiv 2305.11627; biases, norms and sinks are left out):
//!
//! * a head: its rows of the query projection and its columns of the output projection;
//! * a key/value group: its heads, and its rows of the key and value projections;
//! * a channel: its rows of gate and up and its column of down;
//! * an expert: its three matrices.
//!
//! It needs no probes, so the host neither loads the model nor reads text.

use espalier_scoring_policy::{
    Description, Guest, GuestJob, Job, ModelShape, Projection, ScoredUnit, Tensor, Traces, Unit, by_group,
    by_head, identity, values, weights,
};

struct Magnitude;

const UNITS: [Unit; 5] = [Unit::Head, Unit::KvGroup, Unit::FfnChannel, Unit::Expert, Unit::ExpertChannel];

impl Guest for Magnitude {
    type Job = Weights;

    fn describe() -> Description {
        let units = UNITS.map(|unit| ScoredUnit::seeing(unit, &[])).to_vec();
        Description { identity: identity!(), units }
    }
}

/// The weights of one model.
struct Weights {
    shape: ModelShape,
}

impl GuestJob for Weights {
    fn begin(shape: ModelShape, _units: Vec<Unit>) -> Result<Job, String> {
        Ok(Job::new(Self { shape }))
    }

    fn observe(&self, _layer: u32, _traces: &Traces) -> Result<(), String> {
        Ok(())
    }

    fn scores(&self, layer: u32, unit: Unit) -> Result<Vec<f64>, String> {
        match unit {
            Unit::Head => self.heads(layer),
            Unit::KvGroup => self.groups(layer),
            Unit::FfnChannel => channels(layer, None),
            Unit::Expert => {
                let experts = self.experts(layer)?;
                Ok(experts.iter().map(|channels| channels.iter().sum()).collect())
            }
            Unit::ExpertChannel => Ok(self.experts(layer)?.concat()),
            Unit::Layer => Err("layers are not scored".to_owned()),
        }
    }
}

impl Weights {
    fn heads(&self, layer: u32) -> Result<Vec<f64>, String> {
        let queries = rows(&weights::values(layer, Projection::Query, None)?)?;
        let outputs = values(&weights::values(layer, Projection::AttentionOutput, None)?.sum_squares())?;
        Ok(by_head(&sum([queries, outputs]), &self.shape))
    }

    fn groups(&self, layer: u32) -> Result<Vec<f64>, String> {
        let heads = by_group(&self.heads(layer)?, &self.shape, layer);
        let keys = rows(&weights::values(layer, Projection::Key, None)?)?;
        let values = rows(&weights::values(layer, Projection::Value, None)?)?;
        Ok(sum([heads, by_head(&keys, &self.shape), by_head(&values, &self.shape)]))
    }

    /// By expert, its channels.
    fn experts(&self, layer: u32) -> Result<Vec<Vec<f64>>, String> {
        let experts = self.shape.layers.get(layer as usize).map_or(0, |layer| layer.experts);
        (0..experts).map(|expert| channels(layer, Some(expert))).collect()
    }
}

fn channels(layer: u32, expert: Option<u32>) -> Result<Vec<f64>, String> {
    let gate = rows(&weights::values(layer, Projection::Gate, expert)?)?;
    let up = rows(&weights::values(layer, Projection::Up, expert)?)?;
    let down = values(&weights::values(layer, Projection::Down, expert)?.sum_squares())?;
    Ok(sum([gate, up, down]))
}

/// The sum of squares of each row.
fn rows(matrix: &Tensor) -> Result<Vec<f64>, String> {
    Ok(values(&matrix.row_l2_norm())?.into_iter().map(|norm| norm * norm).collect())
}

/// Element by element.
fn sum<const COUNT: usize>(parts: [Vec<f64>; COUNT]) -> Vec<f64> {
    let length = parts.iter().map(Vec::len).min().unwrap_or(0);
    (0..length).map(|index| parts.iter().filter_map(|part| part.get(index)).sum()).collect()
}

espalier_scoring_policy::export!(Magnitude);
