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
//! group is the sum over its heads.

use espalier_scoring_policy::{Description, Guest, GuestJob, Job, ModelShape, Traces, Unit, identity};

#[path = "../../taylor/src/gate_gradients.rs"]
mod gate_gradients;

struct Fisher;

impl Guest for Fisher {
    type Job = Pass;

    fn describe() -> Description {
        Description { identity: identity!(), units: gate_gradients::units() }
    }
}

/// One pass over the calibration text.
struct Pass(gate_gradients::GateGradients);

impl GuestJob for Pass {
    fn begin(shape: ModelShape, units: Vec<Unit>) -> Result<Job, String> {
        Ok(Job::new(Self(gate_gradients::GateGradients::new(shape, units, |gradient| {
            gradient * gradient / 2.0
        }))))
    }

    fn observe(&self, layer: u32, traces: &Traces) -> Result<(), String> {
        self.0.observe(layer, traces)
    }

    fn scores(&self, layer: u32, unit: Unit) -> Result<Vec<f64>, String> {
        self.0.scores(layer, unit)
    }
}

espalier_scoring_policy::export!(Fisher);
