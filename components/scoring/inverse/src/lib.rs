//! Inverse scores: the control that must lose to random.
//!
//! The scores are those of `activation-norm` for heads, key/value groups and channels, of `reap` for experts and of
//! `block-influence` for layers, negated: what those would keep goes first. A policy whose inverse does as well says nothing
//! about importance.

use espalier_scoring_policy::{
    Description, Guest, GuestJob, Job, ModelShape, Probe, ScoredUnit, Traces, Unit, identity,
};

#[path = "../../block-influence/src/influence.rs"]
mod influence;
#[path = "../../activation-norm/src/norms.rs"]
mod norms;
#[path = "../../reap/src/saliency.rs"]
#[allow(dead_code, reason = "reap logs unseen experts, the control does not")]
mod saliency;

struct Inverse;

const UNITS: [Unit; 5] = [Unit::Layer, Unit::Head, Unit::KvGroup, Unit::FfnChannel, Unit::Expert];

impl Guest for Inverse {
    type Job = Pass;

    fn describe() -> Description {
        let units = UNITS.map(|unit| ScoredUnit::seeing(unit, &probes(unit))).to_vec();
        Description { identity: identity!(), units }
    }
}

fn probes(unit: Unit) -> Vec<Probe> {
    match unit {
        Unit::Layer => influence::PROBES.to_vec(),
        Unit::Expert => saliency::PROBES.to_vec(),
        other => norms::probe(other).into_iter().collect(),
    }
}

/// One pass over the calibration text.
struct Pass {
    units: Vec<Unit>,
    norms: norms::ActivationNorms,
    influence: influence::BlockInfluence,
    saliency: saliency::ExpertSaliency,
}

impl GuestJob for Pass {
    fn begin(shape: ModelShape, units: Vec<Unit>) -> Result<Job, String> {
        let norms = norms::ActivationNorms::new(shape, &units);
        Ok(Job::new(Self { units, norms, influence: Default::default(), saliency: Default::default() }))
    }

    fn observe(&self, layer: u32, traces: &Traces) -> Result<(), String> {
        self.norms.observe(layer, traces)?;
        if self.units.contains(&Unit::Layer) {
            self.influence.observe(layer, traces)?;
        }
        if self.units.contains(&Unit::Expert) {
            self.saliency.observe(layer, traces)?;
        }
        Ok(())
    }

    fn scores(&self, layer: u32, unit: Unit) -> Result<Vec<f64>, String> {
        let scores = match unit {
            Unit::Layer => self.influence.scores(layer)?,
            Unit::Expert => self.saliency.scores(layer)?,
            other => self.norms.scores(layer, other)?,
        };
        Ok(scores.into_iter().map(|score| -score).collect())
    }
}

espalier_scoring_policy::export!(Inverse);
