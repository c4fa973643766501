//! Activation norm: a head whose output is small on calibration text matters little.
//!
//! The score of a head is the Euclidean norm over its channels c of
//!
//! ```text
//! s_c = sqrt( Σ_sequences ( 1/T · Σ_t |a_t,c| )² )
//! ```
//!
//! with a the heads' output and T the tokens of a sequence (Minitron, arXiv 2407.14679, section 2.2).

wit_bindgen::generate!({ path: "wit", world: "scoring-policy", generate_all });

use std::cell::RefCell;
use std::collections::BTreeMap;

use espalier::kernels::calibration::Traces;
use espalier::kernels::model::ModelShape;
use espalier::kernels::tensor::Tensor;
use espalier::kernels::types::{Error, Probe, Unit};
use espalier::policy::types::Identity;
use exports::espalier::policy::scoring::{Description, Guest, GuestJob, Job, ScoredUnit};

struct Policy;

impl Guest for Policy {
    type Job = Pass;

    // What the host must record for the policy, and for which kinds of units.
    fn describe() -> Description {
        Description {
            identity: Identity {
                name: env!("CARGO_PKG_NAME").to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                summary: env!("CARGO_PKG_DESCRIPTION").to_owned(),
            },
            units: vec![ScoredUnit {
                unit: Unit::Head,
                probes: vec![Probe::HeadOutput],
                ablation: false,
            }],
        }
    }
}

/// One pass over the calibration text.
struct Pass {
    head_dim: u32,
    /// For each layer, the sum over the sequences so far of s_c². The values stay in the host.
    sums: RefCell<BTreeMap<u32, Tensor>>,
}

impl GuestJob for Pass {
    fn begin(shape: ModelShape, _units: Vec<Unit>) -> Result<Job, String> {
        Ok(Job::new(Self { head_dim: shape.head_dim, sums: RefCell::default() }))
    }

    // Called for each sequence and layer.
    fn observe(&self, layer: u32, traces: &Traces) -> Result<(), String> {
        let mean = traces.values(Probe::HeadOutput).map_err(text)?.mean_abs();
        let mut sums = self.sums.borrow_mut();
        if !sums.contains_key(&layer) {
            sums.insert(layer, Tensor::zeros(&mean.shape()).map_err(text)?);
        }
        sums[&layer].accumulate_squares(&mean).map_err(text)
    }

    // Called at the end, layer by layer: one number for each head, low goes first.
    fn scores(&self, layer: u32, _unit: Unit) -> Result<Vec<f64>, String> {
        let sums = self.sums.borrow();
        let sum = sums.get(&layer).ok_or_else(|| format!("layer {layer} was never observed"))?;
        let heads = sum.square_root().grouped_l2_norm(self.head_dim).map_err(text)?;
        Ok(heads.read().map_err(text)?.into_iter().map(f64::from).collect())
    }
}

/// The words of a refusal by the host.
fn text(error: Error) -> String {
    match error {
        Error::ShapeMismatch(text)
        | Error::InvalidArgument(text)
        | Error::TooLarge(text)
        | Error::Unavailable(text) => text,
    }
}

export!(Policy);
