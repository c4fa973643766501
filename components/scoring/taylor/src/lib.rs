//! Taylor: what the loss changes, to first order, when a unit's output is multiplied by zero.
//!
//! With a the input of the output or down projection, g the gradient of a sequence's loss with respect to it and ξ a factor
//! of the unit's output, `∂L/∂ξ` at ξ = 1 is `Σ_t a_t · g_t` over the tokens and channels of the unit, and the score is the
//! mean of its magnitude over sequences:
//!
//! ```text
//! s_u = E_sequences | Σ_t Σ_{c ∈ u} a_t,c · g_t,c |
//! ```
//!
//! This is the head importance of Michel, Levy and Neubig ("Are Sixteen Heads Really Better than One?", arXiv 1905.10650),
//! and for channels the first-order term of Molchanov et al. (arXiv 1906.10771). Units of different layers are not
//! compared, so the published normalisation by layer changes nothing and is left out. The score of a key/value group is
//! the sum over its heads. The gradients need a backward pass: a host without one refuses this policy by name.

use espalier_scoring_policy::{
    Description, Guest, GuestJob, Job, ModelShape, Probe, ScoredUnit, Sums, Traces, Unit, by_group, by_head,
    identity, values,
};

struct Taylor;

const HEAD: [Probe; 2] = [Probe::HeadOutput, Probe::HeadOutputGradient];
const CHANNEL: [Probe; 2] = [Probe::FfnActivation, Probe::FfnActivationGradient];

impl Guest for Taylor {
    type Job = Pass;

    fn describe() -> Description {
        Description {
            identity: identity!(),
            units: vec![
                ScoredUnit::seeing(Unit::Head, &HEAD),
                ScoredUnit::seeing(Unit::KvGroup, &HEAD),
                ScoredUnit::seeing(Unit::FfnChannel, &CHANNEL),
            ],
        }
    }
}

/// One pass over the calibration text: sums over sequences, by head and by channel.
struct Pass {
    shape: ModelShape,
    units: Vec<Unit>,
    heads: Sums,
    channels: Sums,
}

impl GuestJob for Pass {
    fn begin(shape: ModelShape, units: Vec<Unit>) -> Result<Job, String> {
        Ok(Job::new(Self { shape, units, heads: Sums::default(), channels: Sums::default() }))
    }

    fn observe(&self, layer: u32, traces: &Traces) -> Result<(), String> {
        if self.units.iter().any(|unit| *unit != Unit::FfnChannel) {
            let heads = by_head(&products(traces, HEAD)?, &self.shape);
            self.heads.add(layer, &heads.into_iter().map(f64::abs).collect::<Vec<_>>(), 1.0);
        }
        if self.units.contains(&Unit::FfnChannel) {
            let channels = products(traces, CHANNEL)?;
            self.channels.add(layer, &channels.into_iter().map(f64::abs).collect::<Vec<_>>(), 1.0);
        }
        Ok(())
    }

    fn scores(&self, layer: u32, unit: Unit) -> Result<Vec<f64>, String> {
        let sums = if unit == Unit::FfnChannel { &self.channels } else { &self.heads };
        let scores: Vec<f64> = sums.of(layer)?.mean();
        Ok(if unit == Unit::KvGroup { by_group(&scores, &self.shape, layer) } else { scores })
    }
}

/// By channel, the sum over the tokens of the activation by its gradient.
fn products(traces: &Traces, [activation, gradient]: [Probe; 2]) -> Result<Vec<f64>, String> {
    values(&traces.values(activation)?.multiply(&traces.values(gradient)?)?.sum())
}

espalier_scoring_policy::export!(Taylor);
