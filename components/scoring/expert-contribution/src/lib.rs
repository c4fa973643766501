//! Expert contribution: an expert matters by what it adds to the residual stream, over all tokens.
//!
//! With g_i(t) the gate of expert i, 0 where it is not among the chosen ones, and f_i(t) its output before it is gated,
//!
//! ```text
//! s_i = 1/T · Σ_t g_i(t) · ‖f_i(t)‖₂
//! ```
//!
//! This is REAP's saliency (Lasby et al., arXiv 2510.13999), which is a mean over the tokens that are routed to the expert,
//! times the share of those tokens, and so the gated form of the summed expert activation norm (EAN) that the paper compares
//! with. Where experts are used very unequally, as in a mixture trained without a balancing loss, a rarely used expert with
//! large outputs counts little here.

use espalier_scoring_policy::{
    Description, Guest, GuestJob, Job, ModelShape, ScoredUnit, Traces, Unit, identity,
};

#[path = "../../reap/src/saliency.rs"]
#[allow(dead_code, reason = "REAP's own mean and its log of unseen experts are not used here")]
mod saliency;

struct ExpertContribution;

impl Guest for ExpertContribution {
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
        self.0.contributions(layer)
    }
}

espalier_scoring_policy::export!(ExpertContribution);
