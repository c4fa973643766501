//! Scoring policies: traces in, one score per unit out.

use std::sync::Arc;

use wasmtime::component::{Resource, ResourceAny};

use crate::bindings::scoring::ScoringPolicy as Bindings;
use crate::calls::CallReport;
use crate::component::{Component, Prepared, ScoredUnit};
use crate::identity::shortened;
use crate::imports::model_shape;
use crate::instance::Instance;
use crate::{ComponentError, Identity, ModelFacts, Probe, ScoringInputs, Trace, Unit, World};

/// A component of the world `scoring-policy`.
#[derive(Clone, Debug)]
pub struct ScoringPolicy {
    component: Component,
    report: CallReport,
}

impl ScoringPolicy {
    /// The policy of a component; an error for one of another world.
    pub fn new(component: Component) -> Result<Self, ComponentError> {
        match component.prepared() {
            Prepared::Scoring(_) => Ok(Self { component, report: CallReport::none() }),
            _ => Err(component.not_a(World::ScoringPolicy)),
        }
    }

    /// Reports its calls from now on.
    pub(crate) fn reporting(self, report: CallReport) -> Self {
        Self { report, ..self }
    }

    /// The component.
    pub fn component(&self) -> &Component {
        &self.component
    }

    /// Name, version and summary.
    pub fn identity(&self) -> &Identity {
        self.component.identity()
    }

    /// The units that the policy scores.
    pub fn units(&self) -> &[ScoredUnit] {
        self.component.scored_units()
    }

    /// The probes that must be recorded to score these units, each once.
    pub fn probes(&self, units: &[Unit]) -> Result<Vec<Probe>, ComponentError> {
        let mut probes = Vec::new();
        for unit in units {
            probes.extend(&self.scored(*unit)?.probes);
        }
        probes.sort_unstable();
        probes.dedup();
        Ok(probes)
    }

    /// Whether scoring these units takes running the model without some of its units.
    pub fn needs_ablation(&self, units: &[Unit]) -> Result<bool, ComponentError> {
        units.iter().try_fold(false, |needs, unit| Ok(needs || self.scored(*unit)?.ablation))
    }

    fn scored(&self, unit: Unit) -> Result<&ScoredUnit, ComponentError> {
        self.units().iter().find(|scored| scored.unit == unit).ok_or_else(|| {
            let known: Vec<_> = self.units().iter().map(|scored| scored.unit.name()).collect();
            let known = known.join(", ");
            ComponentError::Unsupported {
                component: self.component.label().to_owned(),
                problem: format!("does not score the unit \"{unit}\", it scores {known}"),
            }
        })
    }

    /// Starts a job in an instance of its own.
    pub fn begin(&self, mut inputs: ScoringInputs, units: &[Unit]) -> Result<ScoringJob, ComponentError> {
        if !self.needs_ablation(units)? {
            inputs.ablation = None;
        }
        self.report.watch(|| self.start(inputs, units))
    }

    fn start(&self, inputs: ScoringInputs, units: &[Unit]) -> Result<ScoringJob, ComponentError> {
        let ScoringInputs { facts, weights, ablation, seed } = inputs;
        let Prepared::Scoring(pre) = self.component.prepared() else {
            return Err(self.component.not_a(World::ScoringPolicy));
        };
        let mut instance = self.component.start(
            |context| {
                context.facts = Some(Arc::clone(&facts));
                context.weights = weights;
                context.ablation = ablation;
                context.seed = seed;
            },
            |store| pre.instantiate(store),
        )?;
        let shape = model_shape(&facts);
        let guest_units: Vec<_> = units.iter().map(|unit| (*unit).into()).collect();
        let begun = instance.call("begin", |policy, store| {
            policy.espalier_policy_scoring().job().call_begin(store, &shape, &guest_units)
        })?;
        let label: Arc<str> = self.component.label().into();
        match begun {
            Ok(job) => {
                let report = self.report.clone();
                Ok(ScoringJob { instance, job, facts, units: units.to_vec(), label, report })
            }
            Err(message) => Err(refusal(&label, "begin", &message)),
        }
    }
}

/// One pass over calibration text. After an error it is over.
pub struct ScoringJob {
    instance: Instance<Bindings>,
    job: ResourceAny,
    facts: Arc<ModelFacts>,
    units: Vec<Unit>,
    label: Arc<str>,
    report: CallReport,
}

impl ScoringJob {
    /// Shows the policy the traces of one calibration sequence in one layer.
    pub fn observe(&mut self, layer: usize, traces: &[Trace]) -> Result<(), ComponentError> {
        let index = self.layer(layer)?;
        self.report.clone().watch(|| self.show(index, traces))
    }

    fn show(&mut self, index: u32, traces: &[Trace]) -> Result<(), ComponentError> {
        let job = self.job;
        let observed = self.instance.call("observe", |policy, store| {
            let lent = store.data_mut().lend(traces.into())?;
            let borrowed = Resource::new_borrow(lent.rep());
            let answer =
                policy.espalier_policy_scoring().job().call_observe(&mut *store, job, index, borrowed)?;
            store.data_mut().withdraw(lent)?;
            Ok(answer)
        })?;
        observed.map_err(|message| refusal(&self.label, "observe", &message))
    }

    /// One finite score for each such unit of the layer, in the model's order; the lowest is pruned first.
    pub fn scores(&mut self, layer: usize, unit: Unit) -> Result<Vec<f64>, ComponentError> {
        let index = self.layer(layer)?;
        if !self.units.contains(&unit) {
            return Err(ComponentError::Unsupported {
                component: self.label.to_string(),
                problem: format!("was not begun for the unit \"{unit}\""),
            });
        }
        self.report.clone().watch(|| self.ask(layer, index, unit))
    }

    fn ask(&mut self, layer: usize, index: u32, unit: Unit) -> Result<Vec<f64>, ComponentError> {
        let job = self.job;
        let scores = self
            .instance
            .call("scores", |policy, store| {
                policy.espalier_policy_scoring().job().call_scores(store, job, index, unit.into())
            })?
            .map_err(|message| refusal(&self.label, "scores", &message))?;
        let invalid = |found: String, expected: String| {
            Err(ComponentError::InvalidAnswer {
                component: self.label.to_string(),
                call: "scores",
                found,
                expected,
            })
        };
        let expected = self.facts.layers.get(layer).and_then(|layer| layer.units(unit));
        if let Some(expected) = expected
            && usize::try_from(expected) != Ok(scores.len())
        {
            return invalid(
                format!("{} scores", scores.len()),
                format!("one for each of the {expected} units \"{unit}\" of layer {layer}"),
            );
        }
        if let Some((at, score)) = scores.iter().enumerate().find(|(_, score)| !score.is_finite()) {
            return invalid(format!("{score} for unit {at} of layer {layer}"), "finite scores".to_owned());
        }
        Ok(scores)
    }

    fn layer(&self, layer: usize) -> Result<u32, ComponentError> {
        let layers = self.facts.layers.len();
        match u32::try_from(layer) {
            Ok(index) if layer < layers && self.instance.is_alive() => Ok(index),
            Ok(_) if layer < layers => Err(ComponentError::Unsupported {
                component: self.label.to_string(),
                problem: "was stopped earlier in this job, which is over".to_owned(),
            }),
            _ => Err(ComponentError::Unsupported {
                component: self.label.to_string(),
                problem: format!("was asked about layer {layer} of a model with {layers} layers"),
            }),
        }
    }
}

pub(crate) fn refusal(label: &str, call: &'static str, message: &str) -> ComponentError {
    ComponentError::Guest { component: label.to_owned(), call, message: shortened(message, 1_000) }
}
