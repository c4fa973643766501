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
//! the sum over its heads.

use espalier_scoring_policy::{Description, Guest, GuestJob, Job, ModelShape, Traces, Unit, identity};

mod gate_gradients;

struct Taylor;

impl Guest for Taylor {
    type Job = Pass;

    fn describe() -> Description {
        Description { identity: identity!(), units: gate_gradients::units() }
    }
}

/// One pass over the calibration text.
struct Pass(gate_gradients::GateGradients);

impl GuestJob for Pass {
    fn begin(shape: ModelShape, units: Vec<Unit>) -> Result<Job, String> {
        Ok(Job::new(Self(gate_gradients::GateGradients::new(shape, units, f64::abs))))
    }

    fn observe(&self, layer: u32, traces: &Traces) -> Result<(), String> {
        self.0.observe(layer, traces)
    }

    fn scores(&self, layer: u32, unit: Unit) -> Result<Vec<f64>, String> {
        self.0.scores(layer, unit)
    }
}

espalier_scoring_policy::export!(Taylor);
