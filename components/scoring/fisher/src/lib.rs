//! Fisher: what the loss changes, to second order, when a unit's output is multiplied by zero.
//!
//! With a the input of the output or down projection, g the gradient of a sequence's loss with respect to it and ξ a factor
//! of the unit's output, `∂L/∂ξ` at ξ = 1 is `Σ_t a_t · g_t` over the tokens and channels of the unit. Optimal brain damage
//! (LeCun, Denker and Solla, 1989) gives the change `½ h ξ²` by the diagonal h of the Hessian, and h is near the mean of
//! the squares of single sequences' gradients, the Fisher information:
//!
//! ```text
//! s_u = ½ · E_sequences ( Σ_t Σ_{c ∈ u} a_t,c · g_t,c )²
//! ```
//!
//! For factors of heads and channels this is the mask score of Kwon et al. (arXiv 2204.09656). The score of a key/value
//! group is the sum over its heads. The gradients need a backward pass: a host without one refuses this policy by name.

use espalier_scoring_policy::{
    Description, Guest, GuestJob, Job, ModelShape, Probe, ScoredUnit, Sums, Traces, Unit, by_group, by_head,
    identity, values,
};

struct Fisher;

const HEAD: [Probe; 2] = [Probe::HeadOutput, Probe::HeadOutputGradient];
const CHANNEL: [Probe; 2] = [Probe::FfnActivation, Probe::FfnActivationGradient];

impl Guest for Fisher {
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
            self.heads.add(
                layer,
                &heads.into_iter().map(|product| product * product).collect::<Vec<_>>(),
                1.0,
            );
        }
        if self.units.contains(&Unit::FfnChannel) {
            let channels = products(traces, CHANNEL)?;
            self.channels.add(
                layer,
                &channels.into_iter().map(|product| product * product).collect::<Vec<_>>(),
                1.0,
            );
        }
        Ok(())
    }

    fn scores(&self, layer: u32, unit: Unit) -> Result<Vec<f64>, String> {
        let sums = if unit == Unit::FfnChannel { &self.channels } else { &self.heads };
        let scores: Vec<f64> = sums.of(layer)?.mean().into_iter().map(|mean| mean / 2.0).collect();
        Ok(if unit == Unit::KvGroup { by_group(&scores, &self.shape, layer) } else { scores })
    }
}

/// By channel, the sum over the tokens of the activation by its gradient.
fn products(traces: &Traces, [activation, gradient]: [Probe; 2]) -> Result<Vec<f64>, String> {
    values(&traces.values(activation)?.multiply(&traces.values(gradient)?)?.sum())
}

espalier_scoring_policy::export!(Fisher);
