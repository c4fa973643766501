//! Expert voting: tokens elect the experts that stay.
//!
//! Every token votes for the k experts with its largest router logits, k being how many it passes through. The expert with
//! the fewest votes is eliminated and its voters' next choice moves up; this repeats until none is left. The score is the
//! place in that order, 0 for the first that goes. Of equal votes the expert with fewer votes in the first round goes,
//! then the one with the lower index. This is ranked-choice voting over the router's order, as NVIDIA's Model Optimizer
//! uses it for gpt-oss (`expert_removal_hooks.py`): unlike a frequency it says who takes over.
//!
//! The router's logits of all windows are kept in the host until the end, 4 bytes for each token, layer and expert.

use std::cell::RefCell;
use std::collections::BTreeMap;

use espalier_scoring_policy::{
    Description, Guest, GuestJob, Job, ModelShape, Probe, ScoredUnit, Tensor, Traces, Unit, identity, values,
};

struct ExpertVoting;

impl Guest for ExpertVoting {
    type Job = Pass;

    fn describe() -> Description {
        let units = vec![ScoredUnit::seeing(Unit::Expert, &[Probe::RouterLogits])];
        Description { identity: identity!(), units }
    }
}

/// One pass over the calibration text.
struct Pass {
    shape: ModelShape,
    /// The router's logits, by layer and sequence.
    ballots: RefCell<BTreeMap<u32, Vec<Tensor>>>,
}

impl GuestJob for Pass {
    fn begin(shape: ModelShape, _units: Vec<Unit>) -> Result<Job, String> {
        Ok(Job::new(Self { shape, ballots: RefCell::default() }))
    }

    fn observe(&self, layer: u32, traces: &Traces) -> Result<(), String> {
        self.ballots.borrow_mut().entry(layer).or_default().push(traces.values(Probe::RouterLogits)?);
        Ok(())
    }

    fn scores(&self, layer: u32, _unit: Unit) -> Result<Vec<f64>, String> {
        let ballots = self.ballots.borrow();
        let ballots = ballots.get(&layer).ok_or_else(|| format!("layer {layer} was never observed"))?;
        let shape = self.shape.layers.get(layer as usize).ok_or("a layer that the model does not have")?;
        let votes = |eliminated: &[u32]| count(ballots, shape.active_experts, eliminated);
        let first_round = votes(&[])?;
        let mut eliminated: Vec<u32> = Vec::new();
        while eliminated.len() < first_round.len() {
            let votes = votes(&eliminated)?;
            let fewest = (0..shape.experts)
                .filter(|expert| !eliminated.contains(expert))
                .min_by(|a, b| {
                    let key = |expert: &u32| (votes.get(*expert as usize), first_round.get(*expert as usize));
                    key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal).then(a.cmp(b))
                })
                .ok_or("a layer without experts")?;
            eliminated.push(fewest);
        }
        let place = |expert: u32| eliminated.iter().position(|gone| *gone == expert).unwrap_or_default();
        Ok((0..shape.experts).map(|expert| place(expert) as f64).collect())
    }
}

/// The votes of all tokens for each expert that is not eliminated.
fn count(ballots: &[Tensor], choices: u32, eliminated: &[u32]) -> Result<Vec<f64>, String> {
    let mut sums = Vec::new();
    for ballots in ballots {
        let votes = values(&ballots.count_largest(choices, eliminated))?;
        sums.resize(votes.len(), 0.0);
        sums.iter_mut().zip(votes).for_each(|(sum, votes)| *sum += votes);
    }
    Ok(sums)
}

espalier_scoring_policy::export!(ExpertVoting);
