//! Many waits as three numbers.

use std::time::Duration;

use serde::Serialize;

/// Quantiles of waits, in milliseconds; all 0 when there were none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Latency {
    /// How many waits there were.
    pub(super) count: usize,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl Latency {
    pub(super) fn of(waits: impl Iterator<Item = Duration>) -> Self {
        let mut sorted: Vec<Duration> = waits.collect();
        sorted.sort_unstable();
        let percentile = |percent| milliseconds(&sorted, percent);
        Self { count: sorted.len(), p50: percentile(50), p99: percentile(99), max: percentile(100) }
    }
}

/// The least wait that `percent` of all waits do not exceed (nearest rank).
fn milliseconds(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).map_or(0.0, |wait| wait.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let waits = (1..=200).rev().map(Duration::from_millis);
        assert_eq!(Latency::of(waits), Latency { count: 200, p50: 100.0, p99: 198.0, max: 200.0 });
        let one = [Duration::from_millis(7)];
        assert_eq!(Latency::of(one.into_iter()), Latency { count: 1, p50: 7.0, p99: 7.0, max: 7.0 });
        assert_eq!(Latency::of([].into_iter()), Latency { count: 0, p50: 0.0, p99: 0.0, max: 0.0 });
    }
}
