//! A policy component at work: calibration traces in, scores out.

use std::sync::Arc;

use espalier_components::{Probe, ScoringJob, ScoringPolicy, Trace, Unit};
use espalier_evaluation::model_facts;
use espalier_model::{Model, ModelSpec};

use crate::calibration::Calibration;
use crate::error::PruningError;
use crate::progress::{Phase, Progress, step};
use crate::scores::Scores;
use crate::traces::{TraceObserver, calibrate};

/// Shows `policy` the calibration windows and asks it for the scores of `units` in every layer.
///
/// # Errors
/// A unit that the policy does not score, a guest that refuses, traps or reaches a limit, a failed forward pass, or
/// [`PruningError::Cancelled`].
pub fn score_units(
    model: &Model,
    policy: &ScoringPolicy,
    units: &[Unit],
    calibration: &Calibration,
    progress: &mut dyn Progress,
) -> Result<Scores, PruningError> {
    let spec = model.spec();
    let job = policy.begin(Arc::new(model_facts(spec)), units, calibration.record.seed)?;
    let mut observer = PolicyObserver { job, probes: policy.probes(units)? };
    calibrate(model, calibration, &mut observer, progress)?;
    ask(&mut observer.job, spec, units, progress)
}

/// Asks a policy that needs no probes for the scores of `units` in every layer.
///
/// # Errors
/// See [`score_units`].
pub(crate) fn score_without_probes(
    spec: &ModelSpec,
    policy: &ScoringPolicy,
    units: &[Unit],
    seed: u64,
    progress: &mut dyn Progress,
) -> Result<Scores, PruningError> {
    let mut job = policy.begin(Arc::new(model_facts(spec)), units, seed)?;
    ask(&mut job, spec, units, progress)
}

fn ask(
    job: &mut ScoringJob,
    spec: &ModelSpec,
    units: &[Unit],
    progress: &mut dyn Progress,
) -> Result<Scores, PruningError> {
    let layers = spec.layers.len();
    let mut scores = Scores::new();
    step(progress, Phase::Score, 0, layers * units.len())?;
    for (index, &unit) in units.iter().enumerate() {
        let mut of_unit = Vec::with_capacity(layers);
        for layer in 0..layers {
            of_unit.push(job.scores(layer, unit)?);
            step(progress, Phase::Score, index * layers + layer + 1, layers * units.len())?;
        }
        scores.insert(unit, of_unit);
    }
    Ok(scores)
}

struct PolicyObserver {
    job: ScoringJob,
    probes: Vec<Probe>,
}

impl TraceObserver for PolicyObserver {
    fn probes(&self) -> Vec<Probe> {
        self.probes.clone()
    }

    fn observe(&mut self, layer: usize, traces: &[Trace]) -> Result<(), PruningError> {
        Ok(self.job.observe(layer, traces)?)
    }
}
