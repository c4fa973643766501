//! What guests count and observe, bounded whatever they do.
//!
//! A component has a few metrics of its own, by name; all its instances add to them. What does not fit (a name that is
//! none, a metric too many, a value that is no number) is not recorded but counted, by the reason, so that a guest that
//! floods its metrics fills neither the host's memory nor a page of `/metrics`. Values are kept for as long as the
//! component is loaded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::Identity;

/// The longest name of a metric.
const NAME_LENGTH: usize = 64;
/// Upper bounds of a histogram's buckets: seconds from a microsecond on, and counts up to a million.
const BUCKETS: [f64; 25] = [
    1e-6, 1e-5, 1e-4, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0,
    50.0, 100.0, 250.0, 500.0, 1e3, 1e4, 1e5, 1e6,
];

/// The metrics of one component at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct ComponentMetrics {
    /// The component's name.
    pub component: String,
    /// Its version.
    pub version: String,
    /// Its metrics by name.
    pub metrics: Vec<(String, GuestMetric)>,
    /// What was not recorded: the reason, and how often. Reasons that never occurred are left out.
    pub refused: Vec<(&'static str, u64)>,
}

/// One metric of a component.
#[derive(Clone, Debug, PartialEq)]
pub enum GuestMetric {
    /// A sum that only grows.
    Counter(u64),
    /// A distribution.
    Histogram {
        /// The upper bound of each bucket, and how many values are at most as large.
        buckets: Vec<(f64, u64)>,
        /// The sum of all values.
        sum: f64,
        /// How many values there are.
        count: u64,
    },
}

impl GuestMetric {
    fn empty_histogram() -> Self {
        Self::Histogram { buckets: BUCKETS.map(|bound| (bound, 0)).into(), sum: 0.0, count: 0 }
    }
}

/// Why a guest's figure was not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Refusal {
    /// The name is none.
    Name,
    /// The component has as many metrics as it may have.
    TooMany,
    /// The name is that of a metric of the other kind.
    Kind,
    /// The value is infinite or not a number.
    Value,
}

impl Refusal {
    const fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::TooMany => "too_many",
            Self::Kind => "kind",
            Self::Value => "value",
        }
    }
}

/// The metrics of one component.
#[derive(Debug, Default)]
pub(crate) struct GuestMetrics(Mutex<Recorded>);

#[derive(Debug, Default)]
struct Recorded {
    metrics: BTreeMap<String, GuestMetric>,
    refused: BTreeMap<Refusal, u64>,
}

impl GuestMetrics {
    /// Adds to a counter.
    pub(crate) fn count(&self, name: &str, amount: u64, limit: usize) {
        let mut recorded = self.recorded();
        let added =
            recorded.metric(name, limit, || GuestMetric::Counter(0)).and_then(|metric| match metric {
                GuestMetric::Counter(sum) => {
                    *sum = sum.saturating_add(amount);
                    Ok(())
                }
                GuestMetric::Histogram { .. } => Err(Refusal::Kind),
            });
        recorded.note(added);
    }

    /// Puts a value into a histogram.
    pub(crate) fn observe(&self, name: &str, value: f64, limit: usize) {
        let mut recorded = self.recorded();
        let added = if value.is_finite() {
            let metric = recorded.metric(name, limit, GuestMetric::empty_histogram);
            metric.and_then(|metric| match metric {
                GuestMetric::Histogram { buckets, sum, count } => {
                    buckets
                        .iter_mut()
                        .filter(|(bound, _)| value <= *bound)
                        .for_each(|(_, within)| *within += 1);
                    // Two huge values must not make it infinite.
                    *sum = (*sum + value).clamp(f64::MIN, f64::MAX);
                    *count += 1;
                    Ok(())
                }
                GuestMetric::Counter(_) => Err(Refusal::Kind),
            })
        } else {
            Err(Refusal::Value)
        };
        recorded.note(added);
    }

    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorded {
    /// The metric of this name, a new one if there is room.
    fn metric(
        &mut self,
        name: &str,
        limit: usize,
        empty: impl FnOnce() -> GuestMetric,
    ) -> Result<&mut GuestMetric, Refusal> {
        if !is_metric_name(name) {
            return Err(Refusal::Name);
        }
        if !self.metrics.contains_key(name) && self.metrics.len() >= limit {
            return Err(Refusal::TooMany);
        }
        Ok(self.metrics.entry(name.to_owned()).or_insert_with(empty))
    }

    fn note(&mut self, added: Result<(), Refusal>) {
        if let Err(refusal) = added {
            let count = self.refused.entry(refusal).or_default();
            *count = count.saturating_add(1);
        }
    }
}

/// Lower-case letters, digits and underscores, starting with a letter.
fn is_metric_name(text: &str) -> bool {
    text.len() <= NAME_LENGTH
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The metrics of all components that a host has loaded.
#[derive(Debug, Default)]
pub(crate) struct MetricsOfGuests(Mutex<BTreeMap<(String, String), Weak<GuestMetrics>>>);

impl MetricsOfGuests {
    /// Those of a component: the same for everybody who loads it.
    pub(crate) fn of(&self, component: &Identity) -> Arc<GuestMetrics> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, metrics| metrics.strong_count() > 0);
        let metrics = all.entry((component.name.clone(), component.version.clone())).or_default();
        metrics.upgrade().unwrap_or_else(|| {
            let fresh = Arc::new(GuestMetrics::default());
            *metrics = Arc::downgrade(&fresh);
            fresh
        })
    }

    /// All of them now, without the components that have recorded nothing.
    pub(crate) fn snapshot(&self) -> Vec<ComponentMetrics> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |((name, version), metrics): (&(String, String), &Weak<GuestMetrics>)| {
            let metrics = metrics.upgrade()?;
            let recorded = metrics.recorded();
            if recorded.metrics.is_empty() && recorded.refused.is_empty() {
                return None;
            }
            Some(ComponentMetrics {
                component: name.clone(),
                version: version.clone(),
                metrics: recorded
                    .metrics
                    .iter()
                    .map(|(name, metric)| (name.clone(), metric.clone()))
                    .collect(),
                refused: recorded.refused.iter().map(|(reason, count)| (reason.name(), *count)).collect(),
            })
        };
        all.iter().filter_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity { name: "a".into(), version: "1.0.0".into(), summary: String::new() }
    }

    #[test]
    fn figures_add_up_for_all_who_loaded_the_component() {
        let all = MetricsOfGuests::default();
        let (one, other) = (all.of(&identity()), all.of(&identity()));
        assert!(all.snapshot().is_empty());
        one.count("hits", 2, 8);
        other.count("hits", u64::MAX, 8);
        for value in [0.5, 0.0, -1.0, 2e6, f64::MAX, f64::MAX] {
            other.observe("seconds", value, 8);
        }
        let [found] = all.snapshot().try_into().unwrap();
        assert_eq!((found.component.as_str(), found.version.as_str()), ("a", "1.0.0"));
        assert_eq!(found.metrics[0], ("hits".to_owned(), GuestMetric::Counter(u64::MAX)));
        let GuestMetric::Histogram { buckets, sum, count } = &found.metrics[1].1 else { panic!("{found:?}") };
        assert_eq!((*sum, *count), (f64::MAX, 6));
        assert_eq!((buckets[0].1, buckets[11], buckets[24].1), (2, (0.5, 3), 3));
        assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        drop((one, other));
        assert!(all.snapshot().is_empty(), "a component that is gone has no figures");
    }

    #[test]
    fn a_flood_is_counted_and_not_kept() {
        let all = MetricsOfGuests::default();
        let metrics = all.of(&identity());
        for i in 0..10_000 {
            metrics.count(&format!("n{i}"), 1, 4);
        }
        metrics.observe("n0", 1.0, 4);
        metrics.observe("late", f64::NAN, 4);
        metrics.count(&"x".repeat(65), 1, 4);
        for wrong in ["", "A", "1a", "a-b", "a b", "é", "a\n", "_a", "a\"} 1"] {
            metrics.count(wrong, 1, 4);
        }
        let [found] = all.snapshot().try_into().unwrap();
        let names: Vec<_> = found.metrics.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["n0", "n1", "n2", "n3"]);
        assert_eq!(found.refused, [("name", 10), ("too_many", 9_996), ("kind", 1), ("value", 1)]);
    }
}
