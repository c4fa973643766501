//! Block influence: a layer that hardly turns the hidden state goes first.
//!
//! With x_t the hidden state of token t that enters the layer and y_t the one that leaves it (Men et al., "ShortGPT",
//! arXiv 2403.03853; also Minitron's depth score):
//!
//! ```text
//! s = 1 - E_t cos(x_t, y_t)
//! ```

use espalier_scoring_policy::{
    Description, Guest, GuestJob, Job, ModelShape, ScoredUnit, Traces, Unit, identity,
};

mod influence;

struct BlockInfluence;

impl Guest for BlockInfluence {
    type Job = Pass;

    fn describe() -> Description {
        let units = vec![ScoredUnit::seeing(Unit::Layer, &influence::PROBES)];
        Description { identity: identity!(), units }
    }
}

/// One pass over the calibration text.
#[derive(Default)]
struct Pass(influence::BlockInfluence);

impl GuestJob for Pass {
    fn begin(_shape: ModelShape, _units: Vec<Unit>) -> Result<Job, String> {
        Ok(Job::new(Self::default()))
    }

    fn observe(&self, layer: u32, traces: &Traces) -> Result<(), String> {
        self.0.observe(layer, traces)
    }

    fn scores(&self, layer: u32, _unit: Unit) -> Result<Vec<f64>, String> {
        self.0.scores(layer)
    }
}

espalier_scoring_policy::export!(BlockInfluence);
