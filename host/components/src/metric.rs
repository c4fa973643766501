//! Evaluation metrics: a model and a text in, figures out.

use std::sync::Arc;

use crate::calls::CallReport;
use crate::component::{Component, Prepared};
use crate::identity::shortened;
use crate::scoring::refusal;
use crate::{ComponentError, Identity, Measurement, ModelFacts, TextScorer, World};

/// A component of the world `evaluation-metric`.
#[derive(Clone, Debug)]
pub struct EvaluationMetric {
    component: Component,
    report: CallReport,
}

impl EvaluationMetric {
    /// The metric of a component; an error for one of another world.
    pub fn new(component: Component) -> Result<Self, ComponentError> {
        match component.prepared() {
            Prepared::Metric(_) => Ok(Self { component, report: CallReport::none() }),
            _ => Err(component.not_a(World::EvaluationMetric)),
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

    /// Measures the model on the scorer's text, in an instance of its own. Blocks for as long as that takes; an error
    /// of the scorer (a cancelled job) ends it.
    pub fn evaluate(
        &self,
        facts: Arc<ModelFacts>,
        scorer: Arc<dyn TextScorer>,
    ) -> Result<Vec<Measurement>, ComponentError> {
        self.report.watch(|| self.measure(facts, scorer))
    }

    fn measure(
        &self,
        facts: Arc<ModelFacts>,
        scorer: Arc<dyn TextScorer>,
    ) -> Result<Vec<Measurement>, ComponentError> {
        let Prepared::Metric(pre) = self.component.prepared() else {
            return Err(self.component.not_a(World::EvaluationMetric));
        };
        let mut instance = self.component.start(
            |context| {
                context.facts = Some(facts);
                context.scorer = Some(scorer);
            },
            |store| pre.instantiate(store),
        )?;
        let label = self.component.label();
        let measured = instance
            .call("evaluate", |metric, store| metric.espalier_policy_metric().call_evaluate(store))?
            .map_err(|message| refusal(label, "evaluate", &message))?;
        let invalid = |found: String, expected: &str| ComponentError::InvalidAnswer {
            component: label.to_owned(),
            call: "evaluate",
            found,
            expected: expected.to_owned(),
        };
        let checked = measured.into_iter().map(|measurement| {
            let name = measurement.name;
            if !is_measurement_name(&name) {
                let found = format!("the name {:?}", shortened(&name, 80));
                return Err(invalid(found, "lower-case letters, digits, hyphens and dots, at most 100"));
            }
            let error = measurement.standard_error;
            if !measurement.value.is_finite() || error.is_some_and(|error| !error.is_finite()) {
                let found = format!("{} ± {} for {name}", measurement.value, error.unwrap_or_default());
                return Err(invalid(found, "finite figures"));
            }
            Ok(Measurement { name, value: measurement.value, standard_error: error })
        });
        checked.collect()
    }
}

fn is_measurement_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    !name.is_empty() && name.len() <= 100 && name.chars().all(allowed)
}
