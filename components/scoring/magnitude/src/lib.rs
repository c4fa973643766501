//! Magnitude: a unit whose weights are small matters little.
//!
//! The score is the product of the Euclidean norms of what goes with the unit in each of its coupled matrices (the magnitude
//! importance of LLM-Pruner with its aggregation "production", Ma, Fang and Wang, arXiv 2305.11627, §3.2; biases, norms and
//! sinks are left out):
//!
//! * a channel: ‖gate‖ · ‖up‖ · ‖down‖, its rows of gate and up and its column of down;
//! * a head: ‖query‖ · ‖key‖ · ‖value‖ · ‖output‖, its rows of the query projection, those of key and value that it shares with
//!   its group, and its columns of the output projection;
//! * a key/value group: the sum over its heads;
//! * an expert: the sum over its channels.
//!
//! Why not the sum of the squares: a channel's up row can be made twice as large and its down column half as large, a head's
//! values and queries likewise, and the model is the same. A product does not see that, a sum does. That makes it no better a
//! judge than weights can be: `bench/reports/policies.md` has what it costs on a real model.
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
        let of = |projection| weights::values(layer, projection, None);
        let by_head = |channels: &[f64]| square_roots(by_head(channels, &self.shape));
        let queries = by_head(&squares_of_rows(&of(Projection::Query)?)?);
        let keys = by_head(&squares_of_rows(&of(Projection::Key)?)?);
        let shared = by_head(&squares_of_rows(&of(Projection::Value)?)?);
        let outputs = by_head(&values(&of(Projection::AttentionOutput)?.sum_squares())?);
        let heads_per_group = queries.len() / keys.len().max(1);
        let groups = product([keys, shared]);
        let groups =
            groups.into_iter().flat_map(|group| std::iter::repeat_n(group, heads_per_group)).collect();
        Ok(product([queries, outputs, groups]))
    }

    fn groups(&self, layer: u32) -> Result<Vec<f64>, String> {
        Ok(by_group(&self.heads(layer)?, &self.shape, layer))
    }

    /// By expert, its channels.
    fn experts(&self, layer: u32) -> Result<Vec<Vec<f64>>, String> {
        let experts = self.shape.layers.get(layer as usize).map_or(0, |layer| layer.experts);
        (0..experts).map(|expert| channels(layer, Some(expert))).collect()
    }
}

fn channels(layer: u32, expert: Option<u32>) -> Result<Vec<f64>, String> {
    let gate = values(&weights::values(layer, Projection::Gate, expert)?.row_l2_norm())?;
    let up = values(&weights::values(layer, Projection::Up, expert)?.row_l2_norm())?;
    let down = values(&weights::values(layer, Projection::Down, expert)?.l2_norm())?;
    Ok(product([gate, up, down]))
}

/// The sum of squares of each row.
fn squares_of_rows(matrix: &Tensor) -> Result<Vec<f64>, String> {
    Ok(values(&matrix.row_l2_norm())?.into_iter().map(|norm| norm * norm).collect())
}

fn square_roots(values: Vec<f64>) -> Vec<f64> {
    values.into_iter().map(f64::sqrt).collect()
}

/// Element by element.
fn product<const COUNT: usize>(parts: [Vec<f64>; COUNT]) -> Vec<f64> {
    let length = parts.iter().map(Vec::len).min().unwrap_or(0);
    (0..length).map(|index| parts.iter().filter_map(|part| part.get(index)).product()).collect()
}

espalier_scoring_policy::export!(Magnitude);
