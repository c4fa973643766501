//! What a decoded token costs in time by the counts that stay, calibrated on this device.
//!
//! Small models are made by surgery from the checkpoint itself, so that they have its number formats and tensor shapes,
//! and decode on the serving path: the whole one, one with half the layers, and for each kind of unit one with half of
//! them. From their differences follow
//!
//! > ms per token = outside + layers · (layer − Σ over kinds of per unit · (units − units that stay))
//!
//! A model too large to be copied is measured with fewer layers; their time is that of a layer all the same.

use std::collections::BTreeMap;
use std::path::Path;

use espalier_components::Unit;
use espalier_evaluation::{TimingRequest, measure_timing};
use espalier_kernels::Device;
use espalier_model::{Checkpoint, Model, ModelSpec};
use serde::{Deserialize, Serialize};

use crate::error::PruningError;
use crate::plan::{Constraints, Count, PlanRequest, Target, plan};
use crate::scores::Scores;
use crate::storage::Storage;
use crate::surgery::surgery;
use crate::unit::unit_count;

/// Models larger than this are measured with fewer layers.
const MOST_BYTES: u64 = 3 << 30;
/// Measured a few times in turn, so that a busy moment meets them all.
const ROUNDS: usize = 3;
const TIMING: TimingRequest = TimingRequest { prefill_tokens: 64, decode_tokens: 64, runs: 3 };

/// Milliseconds per decoded token by the counts that stay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencyModel {
    /// Embedding, output projection and everything else that is there once.
    pub outside_ms: f64,
    /// A whole layer.
    pub layer_ms: f64,
    /// What a layer saves by each unit that goes.
    pub per_unit_ms: BTreeMap<Unit, f64>,
    /// Units of a whole layer, and of the model for layers.
    pub whole: BTreeMap<Unit, usize>,
    /// Layers of the models that were measured.
    pub measured_layers: usize,
}

impl LatencyModel {
    /// Milliseconds per token where these counts stay and all others are whole.
    #[must_use]
    pub fn predict(&self, counts: &BTreeMap<Unit, usize>) -> f64 {
        let whole = |unit: Unit| self.whole.get(&unit).copied().unwrap_or(0);
        let kept = |unit: Unit| counts.get(&unit).copied().unwrap_or_else(|| whole(unit));
        let groups = whole(Unit::KvGroup).max(1);
        let saved = self.per_unit_ms.iter().map(|(&unit, &each)| {
            // Heads that go with their groups are part of the groups' time.
            let before = match unit {
                Unit::Head => whole(unit) / groups * kept(Unit::KvGroup),
                _ => whole(unit),
            };
            each * before.saturating_sub(kept(unit)) as f64
        });
        let layer = (self.layer_ms - saved.sum::<f64>()).max(0.0);
        self.outside_ms + kept(Unit::Layer) as f64 * layer
    }
}

/// A model to be measured: its layers, and the counts of kinds that are halved.
struct Sample {
    layers: usize,
    halved: Option<(Unit, usize)>,
}

/// Measures the kinds `units`, with models in the new directory `directory`.
pub(super) fn calibrate(
    checkpoint: &Checkpoint,
    device: &Device,
    units: &[(Unit, usize)],
    storage: &Storage,
    directory: &Path,
    step: &mut dyn FnMut() -> Result<(), PruningError>,
) -> Result<LatencyModel, PruningError> {
    let spec = checkpoint.spec();
    let layers = measured_layers(spec, storage);
    let mut samples =
        vec![Sample { layers, halved: None }, Sample { layers: (layers / 2).max(1), halved: None }];
    let inside = units.iter().filter(|(unit, _)| *unit != Unit::Layer);
    samples.extend(inside.clone().map(|&halved| Sample { layers, halved: Some(halved) }));
    let mut models = Vec::new();
    for (index, sample) in samples.iter().enumerate() {
        step()?;
        let out = directory.join(index.to_string());
        write(checkpoint, sample, storage, &out)?;
        models.push(Model::load(&Checkpoint::open(&out)?, device.clone())?);
    }
    let mut best = vec![f64::INFINITY; models.len()];
    for _ in 0..ROUNDS {
        for (model, best) in models.iter().zip(&mut best) {
            step()?;
            let timing = measure_timing("a model that latency is calibrated with", model, &TIMING)?;
            *best = best.min(timing.decode_ms_per_token);
        }
    }
    let of = |index: usize| best.get(index).copied().unwrap_or(0.0);
    let (whole, fewer) = (of(0), samples.get(1).map_or(layers, |sample| sample.layers));
    let layer_ms = match layers - fewer {
        0 => whole / layers.max(1) as f64,
        gone => ((whole - of(1)) / gone as f64).max(0.0),
    };
    let first = spec.layers.first();
    let count = |unit: Unit| match unit {
        Unit::Layer => spec.layers.len(),
        Unit::ExpertChannel => first.map_or(0, |layer| layer.ffn_size),
        _ => first.map_or(0, |layer| unit_count(unit, layer)),
    };
    let saved = |(place, &(unit, half)): (usize, &(Unit, usize))| {
        let gone = count(unit).saturating_sub(half).max(1) * layers;
        (unit, ((whole - of(place + 2)) / gone as f64).max(0.0))
    };
    Ok(LatencyModel {
        outside_ms: (whole - layers as f64 * layer_ms).max(0.0),
        layer_ms,
        per_unit_ms: inside.enumerate().map(saved).collect(),
        whole: Unit::ALL.into_iter().map(|unit| (unit, count(unit))).collect(),
        measured_layers: layers,
    })
}

fn measured_layers(spec: &ModelSpec, storage: &Storage) -> usize {
    let layers = spec.layers.len().max(1);
    let each = storage.bytes(spec) / layers as u64;
    let most = usize::try_from(MOST_BYTES / each.max(1)).unwrap_or(layers);
    // An even number, and at least two, where layers go in pairs.
    if most >= layers { layers } else { (most / 2 * 2).max(2).min(layers) }
}

/// Writes the first layers with the first units of each kind: which they are does not matter for speed.
fn write(
    checkpoint: &Checkpoint,
    sample: &Sample,
    storage: &Storage,
    out: &Path,
) -> Result<(), PruningError> {
    let spec = checkpoint.spec();
    let mut scores = Scores::new();
    let mut target = Target::default();
    let mut fix = |unit: Unit, count: usize| {
        let falling = |count: usize| (0..count).map(|index| -(index as f64)).collect::<Vec<f64>>();
        let of_layer = |(index, layer)| match unit {
            Unit::Layer => vec![-(index as f64)],
            _ => falling(unit_count(unit, layer)),
        };
        scores.insert(unit, spec.layers.iter().enumerate().map(of_layer).collect());
        target.counts.insert(unit, Count::Uniform(count));
    };
    if sample.layers < spec.layers.len() {
        fix(Unit::Layer, sample.layers);
    }
    if let Some((unit, count)) = sample.halved {
        fix(unit, count);
    }
    let request = PlanRequest {
        units: target.counts.keys().copied().collect(),
        target,
        // Only this program loads it.
        constraints: Constraints {
            layout: crate::plan::Layout::Espalier,
            heads_divide_hidden_size: false,
            ..Constraints::default()
        },
        storage: *storage,
        policies: Vec::new(),
        calibration: None,
    };
    let plan = match request.units.is_empty() {
        true => crate::plan::Plan::unchanged(spec, *storage),
        false => plan(&scores, spec, &request)?,
    };
    surgery(&plan, checkpoint, out, &mut crate::progress::Unwatched)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_falls_with_layers_and_with_what_is_in_them() {
        let model = LatencyModel {
            outside_ms: 2.0,
            layer_ms: 1.0,
            per_unit_ms: [(Unit::FfnChannel, 0.001), (Unit::KvGroup, 0.05), (Unit::Head, 0.01)].into(),
            whole: [(Unit::Layer, 10), (Unit::FfnChannel, 500), (Unit::KvGroup, 4), (Unit::Head, 8)].into(),
            measured_layers: 10,
        };
        let predict = |counts: &[(Unit, usize)]| model.predict(&counts.iter().copied().collect());
        assert!((predict(&[]) - 12.0).abs() < 1e-9);
        assert!((predict(&[(Unit::Layer, 5)]) - 7.0).abs() < 1e-9);
        assert!((predict(&[(Unit::FfnChannel, 250)]) - 9.5).abs() < 1e-9);
        // Two groups take four heads along; two more heads go by themselves.
        assert!((predict(&[(Unit::KvGroup, 2), (Unit::Head, 2)]) - 10.8).abs() < 1e-9);
    }
}
