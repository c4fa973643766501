//! A policy component at work: calibration traces in, scores out.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use espalier_components::{Ablation, Probe, ScoringInputs, ScoringJob, ScoringPolicy, Trace, Unit};
use espalier_evaluation::model_facts;
use espalier_model::{Checkpoint, Model, ModelSpec};

use crate::ablation::{LossWork, ModelAblation};
use crate::calibration::Calibration;
use crate::error::PruningError;
use crate::gradients::{check_memory, network};
use crate::progress::{Phase, Progress, step};
use crate::scores::Scores;
use crate::traces::{TraceObserver, calibrate};
use crate::weights::CheckpointWeights;

/// How often a job whose policy asks for losses looks whether it was cancelled.
const CANCEL_INTERVAL: Duration = Duration::from_millis(100);

/// Shows `policy` the calibration windows, if it wants to see any, and asks it for the scores of `units` in every layer.
/// `model` is the loaded form of `checkpoint`.
///
/// # Errors
/// See [`check_probes`]; also a guest that refuses, traps or reaches a limit, a failed forward pass, or
/// [`PruningError::Cancelled`].
pub fn score_units(
    checkpoint: &Arc<Checkpoint>,
    model: &Arc<Model>,
    policy: &ScoringPolicy,
    units: &[Unit],
    calibration: &Calibration,
    progress: &mut dyn Progress,
) -> Result<Scores, PruningError> {
    let spec = model.spec();
    check_probes(policy, units, spec)?;
    let mut inputs = inputs(checkpoint, calibration.record.seed);
    let mut work = None;
    if policy.needs_ablation(units)? {
        let ablation = ModelAblation::new(Arc::clone(model), calibration.windows.clone());
        work = Some(ablation.work());
        inputs.ablation = Some(Arc::new(ablation) as Arc<dyn Ablation>);
    }
    let job = policy.begin(inputs, units)?;
    let mut observer = PolicyObserver { job, probes: policy.probes(units)? };
    if !observer.probes.is_empty() {
        let network = match observer.probes.iter().any(|probe| probe.is_gradient()) {
            true => Some(network(checkpoint)?),
            false => None,
        };
        calibrate(model, network.as_ref(), calibration, &mut observer, progress)?;
    }
    match work {
        None => ask(&mut observer.job, spec, units, progress),
        Some(work) => ask_for_losses(&mut observer.job, spec, units, &work, progress),
    }
}

/// Asks a policy that needs to see nothing for the scores of `units` in every layer.
///
/// # Errors
/// See [`score_units`].
pub(crate) fn score_without_text(
    checkpoint: &Arc<Checkpoint>,
    policy: &ScoringPolicy,
    units: &[Unit],
    seed: u64,
    progress: &mut dyn Progress,
) -> Result<Scores, PruningError> {
    let mut job = policy.begin(inputs(checkpoint, seed), units)?;
    ask(&mut job, checkpoint.spec(), units, progress)
}

/// Refuses what cannot be recorded before anything is computed.
///
/// # Errors
/// A unit that the policy does not score, a probe that no layer of the model has, or gradients of a model that does not
/// fit in memory as f32.
pub(crate) fn check_probes(
    policy: &ScoringPolicy,
    units: &[Unit],
    spec: &ModelSpec,
) -> Result<(), PruningError> {
    let facts = model_facts(spec);
    let refuse = |probe: Probe, reason: String| {
        let policy = policy.identity().to_string();
        Err(PruningError::ProbeUnavailable { policy, probe: probe.name(), reason })
    };
    for probe in policy.probes(units)? {
        if !facts.layers.iter().any(|layer| probe.exists_in(layer)) {
            return refuse(probe, "no layer of this model has it".to_owned());
        }
        if probe.is_gradient()
            && let Err(reason) = check_memory(spec)
        {
            return refuse(probe, reason);
        }
    }
    Ok(())
}

fn inputs(checkpoint: &Arc<Checkpoint>, seed: u64) -> ScoringInputs {
    let facts = Arc::new(model_facts(checkpoint.spec()));
    let weights = Arc::new(CheckpointWeights(Arc::clone(checkpoint)));
    ScoringInputs { weights: Some(weights), seed, ..ScoringInputs::new(facts) }
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

/// Asks on a thread of its own, since one question may take as long as the operator lets it.
fn ask_for_losses(
    job: &mut ScoringJob,
    spec: &ModelSpec,
    units: &[Unit],
    work: &LossWork,
    progress: &mut dyn Progress,
) -> Result<Scores, PruningError> {
    let scores = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut wanted = |_, _, _| !work.is_cancelled();
            ask(job, spec, units, &mut wanted)
        });
        while !asking.is_finished() {
            if !progress.report(Phase::Ablate, work.windows(), 0) {
                work.cancel();
            }
            thread::sleep(CANCEL_INTERVAL);
        }
        asking.join()
    });
    match scores {
        // What ended the guest's call was that nobody wants the answer any more.
        Ok(Err(_)) if work.is_cancelled() => Err(PruningError::Cancelled),
        Ok(scores) => scores,
        Err(panic) => std::panic::resume_unwind(panic),
    }
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
