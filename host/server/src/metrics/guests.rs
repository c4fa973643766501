//! What components count and observe themselves, as Prometheus families with the component, its version and its own name
//! of the metric as labels.
//!
//! How much of it there is, the component host bounds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use espalier_components::{ComponentMetrics, GuestMetric};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use crate::error::ServerError;
use crate::metrics::definition::{self as d, Definition};

/// The collector. Clones share what they show.
#[derive(Clone, Debug)]
pub(super) struct Guests {
    descriptions: Arc<[Desc]>,
    shown: Arc<Mutex<Vec<ComponentMetrics>>>,
}

impl Guests {
    /// # Errors
    /// A definition that Prometheus does not accept.
    pub(super) fn new() -> Result<Self, ServerError> {
        let describe = |definition: &Definition| {
            let labels = definition.labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(definition.name.to_owned(), definition.help.to_owned(), labels, HashMap::new())
        };
        let all = [&d::COMPONENT_COUNTED, &d::COMPONENT_OBSERVED, &d::COMPONENT_METRICS_REFUSED];
        let descriptions: Result<Vec<_>, _> = all.into_iter().map(describe).collect();
        Ok(Self { descriptions: descriptions.map_err(ServerError::Metrics)?.into(), shown: Arc::default() })
    }

    /// What the next collection shows.
    pub(super) fn show(&self, metrics: Vec<ComponentMetrics>) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = metrics;
    }
}

impl Collector for Guests {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (mut counted, mut observed, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for of in &*self.shown.lock().unwrap_or_else(PoisonError::into_inner) {
            for (name, metric) in &of.metrics {
                let labels = labels(&d::COMPONENT_COUNTED, of, name);
                match metric {
                    GuestMetric::Counter(sum) => counted.push(counter(labels, *sum)),
                    GuestMetric::Histogram { buckets, sum, count } => {
                        observed.push(histogram(labels, buckets, *sum, *count));
                    }
                }
            }
            let reasons = of.refused.iter();
            refused.extend(
                reasons.map(|(reason, count)| {
                    counter(labels(&d::COMPONENT_METRICS_REFUSED, of, reason), *count)
                }),
            );
        }
        vec![
            family(&d::COMPONENT_COUNTED, MetricType::COUNTER, counted),
            family(&d::COMPONENT_OBSERVED, MetricType::HISTOGRAM, observed),
            family(&d::COMPONENT_METRICS_REFUSED, MetricType::COUNTER, refused),
        ]
    }
}

fn family(definition: &Definition, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(definition.name.to_owned());
    family.set_help(definition.help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

/// The component, its version, and the definition's third label.
fn labels(definition: &Definition, of: &ComponentMetrics, third: &str) -> Vec<LabelPair> {
    let values = [of.component.as_str(), of.version.as_str(), third];
    let pair = |(label, value): (&&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*label).to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    let mut labels: Vec<_> = definition.labels.iter().zip(values).map(pair).collect();
    // As the library does with the labels of its own collectors.
    labels.sort();
    labels
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus' numbers are doubles")]
fn counter(labels: Vec<LabelPair>, sum: u64) -> Metric {
    let (mut metric, mut counter) = (Metric::from_label(labels), Counter::default());
    counter.set_value(sum as f64);
    metric.set_counter(counter);
    metric
}

fn histogram(labels: Vec<LabelPair>, buckets: &[(f64, u64)], sum: f64, count: u64) -> Metric {
    let (mut metric, mut histogram) = (Metric::from_label(labels), Histogram::default());
    let bucket = |(bound, within): &(f64, u64)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(*within);
        bucket
    };
    histogram.set_bucket(buckets.iter().map(bucket).collect());
    histogram.set_sample_sum(sum);
    histogram.set_sample_count(count);
    metric.set_histogram(histogram);
    metric
}
