//! Activation sparsity: a channel that is near zero for most tokens goes first.
//!
//! A channel is silent for a token when its magnitude is below ε times the root mean square of all channels of the token's
//! activation; gated activations are never exactly zero, so a threshold is needed, and ε = 0.05. The sparsity of a
//! channel is the share of tokens for which it is silent, over all sequences, and the score is what is left:
//!
//! ```text
//! s_c = 1 - (number of tokens t with |a_t,c| < ε · sqrt(mean_c' a_t,c'²)) / (number of tokens)
//! ```
//!
//! The rule that channels with a sparsity above 0.9 go is that of the project's brief; the threshold is ours.

use espalier_scoring_policy::{
    Description, Guest, GuestJob, Job, ModelShape, Probe, ScoredUnit, Sums, Traces, Unit, identity, values,
};

/// The share of a token's root mean square below which a channel is silent.
const EPSILON: f64 = 0.05;

struct ActivationSparsity;

impl Guest for ActivationSparsity {
    type Job = Pass;

    fn describe() -> Description {
        let units = vec![ScoredUnit::seeing(Unit::FfnChannel, &[Probe::FfnActivation])];
        Description { identity: identity!(), units }
    }
}

/// One pass over the calibration text: tokens for which a channel was silent.
#[derive(Default)]
struct Pass(Sums);

impl GuestJob for Pass {
    fn begin(_shape: ModelShape, _units: Vec<Unit>) -> Result<Job, String> {
        Ok(Job::new(Self::default()))
    }

    fn observe(&self, layer: u32, traces: &Traces) -> Result<(), String> {
        let activations = traces.values(Probe::FfnActivation)?;
        let channels = activations.shape().last().copied().unwrap_or(1).max(1);
        let thresholds = activations.row_l2_norm().scale((EPSILON / f64::from(channels).sqrt()) as f32);
        let silent = values(&activations.count_below(&thresholds)?)?;
        self.0.add(layer, &silent, f64::from(traces.tokens()));
        Ok(())
    }

    fn scores(&self, layer: u32, _unit: Unit) -> Result<Vec<f64>, String> {
        Ok(self.0.of(layer)?.mean().iter().map(|sparsity| 1.0 - sparsity).collect())
    }
}

espalier_scoring_policy::export!(ActivationSparsity);
