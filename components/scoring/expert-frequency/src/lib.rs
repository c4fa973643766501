//! Expert frequency: an expert that the router seldom chooses goes first.
//!
//! The score is the share of calibration tokens that have the expert among their chosen ones. It is the oldest criterion for
//! mixtures (for example Kim et al., arXiv 2109.10465) and the baseline that saliency is compared with: it cannot tell a
//! rare specialist from a useless expert.

use espalier_scoring_policy::{
    Description, Guest, GuestJob, Job, ModelShape, Probe, ScoredUnit, Sums, Tensor, Traces, Unit, identity,
    values,
};

struct ExpertFrequency;

impl Guest for ExpertFrequency {
    type Job = Pass;

    fn describe() -> Description {
        let units = vec![ScoredUnit::seeing(Unit::Expert, &[Probe::RouterWeights])];
        Description { identity: identity!(), units }
    }
}

/// One pass over the calibration text: tokens that did not choose the expert.
#[derive(Default)]
struct Pass(Sums);

impl GuestJob for Pass {
    fn begin(_shape: ModelShape, _units: Vec<Unit>) -> Result<Job, String> {
        Ok(Job::new(Self::default()))
    }

    fn observe(&self, layer: u32, traces: &Traces) -> Result<(), String> {
        // A gate is a softmax over few logits: what is not exactly zero is far from the smallest number.
        let smallest = Tensor::from_values(&[1], &[f32::MIN_POSITIVE])?;
        let idle = traces.values(Probe::RouterWeights)?.count_below(&smallest)?;
        self.0.add(layer, &values(&idle)?, f64::from(traces.tokens()));
        Ok(())
    }

    fn scores(&self, layer: u32, _unit: Unit) -> Result<Vec<f64>, String> {
        Ok(self.0.of(layer)?.mean().into_iter().map(|idle| 1.0 - idle).collect())
    }
}

espalier_scoring_policy::export!(ExpertFrequency);
