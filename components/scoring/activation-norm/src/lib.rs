//! Activation norm: a unit whose activation is small on calibration text matters little.
//!
//! With a the input of the output projection (heads) or of the down projection (FFN channels), T the tokens of one
//! calibration sequence and the sum over all sequences, the score of channel c is
//!
//! ```text
//! s_c = sqrt( Σ_sequences ( 1/T · Σ_t |a_t,c| )² )
//! ```
//!
//! and the score of a head is the Euclidean norm of s over the head's channels, that of a key/value group the sum over its
//! heads. This is Minitron's statistic
//! (Muralidharan et al., "Compact Language Models via Pruning and Knowledge Distillation", arXiv 2407.14679, §2.2),
//! in the form of NVIDIA's Model Optimizer (`mcore_minitron.py`). Heads should be ranked inside their KV group.

use espalier_scoring_policy::{
    Description, Guest, GuestJob, Job, ModelShape, Probe, ScoredUnit, Traces, Unit, identity,
};

mod norms;

struct ActivationNorm;

impl Guest for ActivationNorm {
    type Job = Pass;

    fn describe() -> Description {
        Description {
            identity: identity!(),
            units: vec![
                ScoredUnit::seeing(Unit::Head, &[Probe::HeadOutput]),
                ScoredUnit::seeing(Unit::KvGroup, &[Probe::HeadOutput]),
                ScoredUnit::seeing(Unit::FfnChannel, &[Probe::FfnActivation]),
            ],
        }
    }
}

/// One pass over the calibration text.
struct Pass(norms::ActivationNorms);

impl GuestJob for Pass {
    fn begin(shape: ModelShape, units: Vec<Unit>) -> Result<Job, String> {
        Ok(Job::new(Self(norms::ActivationNorms::new(shape, &units))))
    }

    fn observe(&self, layer: u32, traces: &Traces) -> Result<(), String> {
        self.0.observe(layer, traces)
    }

    fn scores(&self, layer: u32, unit: Unit) -> Result<Vec<f64>, String> {
        self.0.scores(layer, unit)
    }
}

espalier_scoring_policy::export!(ActivationNorm);
