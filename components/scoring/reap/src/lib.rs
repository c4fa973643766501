//! REAP: an expert matters by what it adds for the tokens that are routed to it.
//!
//! With T_i the tokens that have expert i among their chosen ones, g_i(t) the gate (softmax over the chosen experts'
//! logits) and f_i(t) the expert's output before it is gated, the score is a mean over T_i alone, so that a rare specialist
//! is not taken for a useless one (Lasby et al., "REAP the Experts", arXiv 2510.13999):
//!
//! ```text
//! s_i = 1/|T_i| · Σ_{t ∈ T_i} g_i(t) · ‖f_i(t)‖₂
//! ```
//!
//! An expert that no calibration token reached scores 0, and how many there are is logged.

use espalier_scoring_policy::{
    Description, Guest, GuestJob, Job, ModelShape, ScoredUnit, Traces, Unit, identity, telemetry,
};

mod saliency;

struct Reap;

impl Guest for Reap {
    type Job = Pass;

    fn describe() -> Description {
        let units = vec![ScoredUnit::seeing(Unit::Expert, &saliency::PROBES)];
        Description { identity: identity!(), units }
    }
}

/// One pass over the calibration text.
#[derive(Default)]
struct Pass(saliency::ExpertSaliency);

impl GuestJob for Pass {
    fn begin(_shape: ModelShape, _units: Vec<Unit>) -> Result<Job, String> {
        Ok(Job::new(Self::default()))
    }

    fn observe(&self, layer: u32, traces: &Traces) -> Result<(), String> {
        self.0.observe(layer, traces)
    }

    fn scores(&self, layer: u32, _unit: Unit) -> Result<Vec<f64>, String> {
        let unseen = self.0.unseen(layer)?;
        if unseen > 0 {
            let line = format!("layer {layer}: {unseen} experts got no calibration token and score 0");
            telemetry::log(telemetry::Level::Warning, &line);
        }
        self.0.scores(layer)
    }
}

espalier_scoring_policy::export!(Reap);
