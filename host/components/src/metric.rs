//! Evaluation metrics: a model and data in, figures out.

use std::sync::Arc;

use crate::calls::CallReport;
use crate::component::{Component, Prepared};
use crate::identity::shortened;
use crate::scoring::refusal;
use crate::{ComponentError, Identity, Measurement, MetricInputs, MetricReport, World};

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

    /// Measures what `inputs` holds, in an instance of its own. Blocks for as long as that takes; an error of an input (a
    /// cancelled job) ends it.
    pub fn evaluate(&self, inputs: MetricInputs) -> Result<MetricReport, ComponentError> {
        self.report.watch(|| self.measure(inputs))
    }

    fn measure(&self, inputs: MetricInputs) -> Result<MetricReport, ComponentError> {
        let Prepared::Metric(pre) = self.component.prepared() else {
            return Err(self.component.not_a(World::EvaluationMetric));
        };
        let mut instance = self.component.start(
            |context| {
                context.facts = Some(Arc::clone(&inputs.facts));
                context.metric = Some(inputs);
            },
            |store| pre.instantiate(store),
        )?;
        let label = self.component.label();
        let measured = instance
            .call("evaluate", |metric, store| metric.espalier_policy_metric().call_evaluate(store))?
            .map_err(|message| refusal(label, "evaluate", &message))?;
        let measurements = measured
            .into_iter()
            .map(|found| checked(label, found.name, found.value, found.standard_error))
            .collect::<Result<_, _>>()?;
        Ok(MetricReport { measurements, notes: std::mem::take(&mut instance.store.data_mut().notes) })
    }
}

/// A figure that the guest gave, if it is one.
fn checked(
    label: &str,
    name: String,
    value: f64,
    standard_error: Option<f64>,
) -> Result<Measurement, ComponentError> {
    let invalid = |found: String, expected: &str| ComponentError::InvalidAnswer {
        component: label.to_owned(),
        call: "evaluate",
        found,
        expected: expected.to_owned(),
    };
    if !is_measurement_name(&name) {
        let found = format!("the name {:?}", shortened(&name, 80));
        return Err(invalid(found, "lower-case letters, digits, hyphens and dots, at most 100"));
    }
    if !value.is_finite() || standard_error.is_some_and(|error| !error.is_finite()) {
        let found = format!("{value} ± {} for {name}", standard_error.unwrap_or_default());
        return Err(invalid(found, "finite figures"));
    }
    Ok(Measurement { name, value, standard_error })
}

fn is_measurement_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    !name.is_empty() && name.len() <= 100 && name.chars().all(allowed)
}
