//! The plan with the least predicted loss within budgets: measured sensitivities, costs that are counted or calibrated on
//! the device, and the front of all choices that no other one beats.
//!
//! The loss is that of the model before any recovery. Kinds are measured one at a time, and the rises of their losses are
//! added; what the chosen combination costs together is measured once at the end and stands beside the prediction.

mod budget;
mod latency;
mod sensitivity;
mod text;

use std::collections::BTreeMap;

use espalier_components::{AblatedUnit, Unit};
use espalier_kernels::Device;
use espalier_model::Checkpoint;
use serde::{Deserialize, Serialize};

pub use self::budget::{Budget, Budgets, Cost, Limit};
pub use self::latency::LatencyModel;
pub use self::sensitivity::Sensitivity;
use crate::error::PruningError;
use crate::plan::{Choice, Constraints, PlanRequest, Space, Target, plan};
use crate::scores::Scores;
use crate::storage::Storage;

/// Points of the front that are kept.
const FRONT_POINTS: usize = 24;

/// What a search found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// The limits.
    pub budgets: Budgets,
    /// Loss of the unpruned model on the calibration windows used, in nats per token.
    pub unpruned_loss: f64,
    /// The unpruned model.
    pub unpruned: Candidate,
    /// What each kind costs in quality.
    pub sensitivities: Vec<Sensitivity>,
    /// What a token costs in time, where that is limited.
    pub latency: Option<LatencyModel>,
    /// Choices that no other one beats in both the first limit's cost and the predicted loss, by falling cost.
    pub front: Vec<Candidate>,
    /// The least predicted loss within all limits.
    pub chosen: Candidate,
    /// By how much the loss rises with it, measured.
    pub measured_rise: f64,
}

/// A choice of counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// Units that stay: layers in all; heads, groups, channels and experts in each layer.
    pub counts: BTreeMap<Unit, usize>,
    /// Parameters.
    pub parameters: u64,
    /// Bytes of the weights as they are written.
    pub bytes: u64,
    /// Floating-point operations per token.
    pub flops_per_token: u64,
    /// Milliseconds per decoded token, where they were calibrated.
    pub latency_ms: Option<f64>,
    /// By how many nats per token the loss rises before any recovery.
    pub predicted_rise: f64,
}

impl Candidate {
    /// What it costs.
    #[must_use]
    pub fn cost(&self, cost: Cost) -> f64 {
        match cost {
            Cost::Parameters => self.parameters as f64,
            Cost::Memory => self.bytes as f64,
            Cost::Flops => self.flops_per_token as f64,
            Cost::Latency => self.latency_ms.unwrap_or(0.0),
        }
    }
}

/// What is searched.
pub(crate) struct SearchRequest<'a> {
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) scores: &'a Scores,
    pub(crate) units: &'a [Unit],
    pub(crate) constraints: &'a Constraints,
    pub(crate) storage: &'a Storage,
    pub(crate) budgets: &'a Budgets,
    pub(crate) device: &'a Device,
}

/// Measures and chooses. `loss` is that of the calibration text without some units; `step` reports and cancels.
pub(crate) fn search(
    request: &SearchRequest<'_>,
    loss: &mut dyn FnMut(&[AblatedUnit]) -> Result<f64, PruningError>,
    step: &mut dyn FnMut() -> Result<(), PruningError>,
) -> Result<(Target, Search), PruningError> {
    let SearchRequest { checkpoint, units, budgets, constraints, storage, device, .. } = *request;
    let space = Space::new(checkpoint.spec(), units, constraints, storage)?;
    let whole = space.whole();
    let unpruned_loss = loss(&[])?;
    let mut sensitivities = Vec::new();
    for &unit in units {
        let levels = sensitivity::levels(&space.counts(unit));
        let all = whole.counts.get(&unit).copied().unwrap_or(0);
        let removed = |count: usize| removed(request, &whole, unit, count);
        sensitivities.push(sensitivity::measure(unit, all, &levels, &removed, unpruned_loss, loss)?);
    }
    let latency = match budgets.limits(Cost::Latency) {
        true => {
            let halves: Vec<(Unit, usize)> = sensitivities
                .iter()
                .filter_map(|found| Some((found.unit, half(&space.counts(found.unit))?)))
                .collect();
            let directory = tempfile::tempdir()
                .map_err(PruningError::file("create a directory in", &std::env::temp_dir()))?;
            Some(latency::calibrate(checkpoint, device, &halves, storage, directory.path(), step)?)
        }
        false => None,
    };
    let least = sensitivities.iter().map(|found| (found.unit, found.fewest())).collect();
    let candidate = |choice: &Choice| {
        Some(Candidate {
            counts: choice.counts.clone(),
            parameters: choice.size.parameters,
            bytes: choice.size.bytes,
            flops_per_token: choice.size.flops_per_token,
            latency_ms: latency.as_ref().map(|model| model.predict(&choice.counts)),
            predicted_rise: sensitivity::predicted(&sensitivities, &choice.counts)?,
        })
    };
    let unpruned = candidate(&whole).ok_or(PruningError::NoUnits)?;
    let candidates: Vec<Candidate> = space.combinations(&least).iter().filter_map(candidate).collect();
    let chosen = choose(&candidates, &unpruned, budgets)?.clone();
    let target = Choice { counts: chosen.counts.clone(), size: whole.size }.target();
    let measured_rise = loss(&plan_of(request, target.clone())?)? - unpruned_loss;
    let first = budgets.list().first().map_or(Cost::Parameters, |budget| budget.cost);
    let front = front(candidates, first);
    let found = Search {
        budgets: budgets.clone(),
        unpruned_loss,
        unpruned,
        sensitivities,
        latency,
        front,
        chosen,
        measured_rise,
    };
    Ok((target, found))
}

/// A count near half of all.
fn half(allowed: &[usize]) -> Option<usize> {
    let whole = *allowed.last()?;
    allowed.iter().copied().filter(|&count| count < whole).min_by_key(|&count| (2 * count).abs_diff(whole))
}

/// The units that go where `count` of one kind stay.
fn removed(
    request: &SearchRequest<'_>,
    whole: &Choice,
    unit: Unit,
    count: usize,
) -> Result<Vec<AblatedUnit>, PruningError> {
    let counts = whole.counts.iter().map(|(&kind, &all)| (kind, if kind == unit { count } else { all }));
    // Groups that go take heads along, so the number of heads that stay follows.
    let mut counts: BTreeMap<Unit, usize> = counts.collect();
    if unit == Unit::KvGroup {
        counts.remove(&Unit::Head);
    }
    let choice = Choice { counts, size: whole.size };
    plan_of(request, choice.target())
}

fn plan_of(request: &SearchRequest<'_>, target: Target) -> Result<Vec<AblatedUnit>, PruningError> {
    let request_of_plan = PlanRequest {
        units: target.counts.keys().copied().collect(),
        target,
        constraints: *request.constraints,
        storage: *request.storage,
        policies: Vec::new(),
        calibration: None,
    };
    Ok(plan(request.scores, request.checkpoint.spec(), &request_of_plan)?.removed_units())
}

/// The least predicted loss within all budgets; of equals the one with more parameters.
fn choose<'a>(
    candidates: &'a [Candidate],
    unpruned: &Candidate,
    budgets: &Budgets,
) -> Result<&'a Candidate, PruningError> {
    let within = |candidate: &&Candidate, budget: &Budget| {
        candidate.cost(budget.cost) <= budget.most(unpruned.cost(budget.cost))
    };
    let fits = |candidate: &&Candidate| budgets.list().iter().all(|budget| within(candidate, budget));
    let better = |a: &&Candidate, b: &&Candidate| {
        a.predicted_rise.total_cmp(&b.predicted_rise).then(b.parameters.cmp(&a.parameters))
    };
    candidates.iter().filter(fits).min_by(better).ok_or_else(|| {
        let lowest =
            |cost: Cost| candidates.iter().map(|found| found.cost(cost)).fold(f64::INFINITY, f64::min);
        let reached = budgets.list().iter().map(|budget| {
            let (least, all) = (lowest(budget.cost), unpruned.cost(budget.cost));
            format!("{} down to {:.3}x", budget.cost.name(), least / all.max(f64::MIN_POSITIVE))
        });
        PruningError::Budget {
            found: budgets.to_string(),
            expected: format!(
                "what these kinds of units reach within the constraints: {}",
                reached.collect::<Vec<_>>().join(", ")
            ),
        }
    })
}

/// Those that no other one beats in both, by falling cost, thinned out.
fn front(mut candidates: Vec<Candidate>, cost: Cost) -> Vec<Candidate> {
    candidates.sort_by(|a, b| {
        a.cost(cost).total_cmp(&b.cost(cost)).then(a.predicted_rise.total_cmp(&b.predicted_rise))
    });
    let mut best = f64::INFINITY;
    candidates.retain(|candidate| {
        let better = candidate.predicted_rise < best;
        best = best.min(candidate.predicted_rise);
        better
    });
    candidates.reverse();
    let places: Vec<usize> = (0..candidates.len()).collect();
    let kept = crate::plan::spread(&places, FRONT_POINTS);
    kept.into_iter().filter_map(|place| candidates.get(place).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(parameters: u64, latency: f64, rise: f64) -> Candidate {
        Candidate {
            counts: BTreeMap::new(),
            parameters,
            bytes: 2 * parameters,
            flops_per_token: 2 * parameters,
            latency_ms: Some(latency),
            predicted_rise: rise,
        }
    }

    #[test]
    fn the_least_loss_within_all_budgets_is_chosen() {
        let all = [
            candidate(100, 10.0, 0.0),
            candidate(80, 9.0, 0.1),
            candidate(80, 7.0, 0.3),
            candidate(50, 5.0, 0.9),
        ];
        let chosen = |budgets: &str| choose(&all, &all[0], &budgets.parse().unwrap()).cloned();
        assert_eq!(chosen("parameters<=0.8x").unwrap(), all[1]);
        assert_eq!(chosen("memory<=180").unwrap(), all[1]);
        assert_eq!(chosen("parameters<=0.8x,latency<=0.75x").unwrap(), all[2]);
        let error = chosen("latency<=4ms").unwrap_err().to_string();
        assert!(error.contains("latency<=4ms") && error.contains("latency down to 0.500x"), "{error}");
    }

    #[test]
    fn the_front_holds_what_nothing_beats() {
        let all = [(100, 0.0), (90, 0.2), (80, 0.1), (70, 0.5), (60, 0.4)];
        let all = all.map(|(parameters, rise)| candidate(parameters, 1.0, rise));
        let front = front(all.to_vec(), Cost::Parameters);
        let sizes: Vec<u64> = front.iter().map(|candidate| candidate.parameters).collect();
        assert_eq!(sizes, [100, 80, 60]);
    }
}
