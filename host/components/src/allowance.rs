//! What all instances of one component share: how many calls may run at once, and how fast they may log.
//!
//! A call that finds no room is refused at once; waiting is the caller's decision. Log lines beyond the rate are dropped,
//! and the next one that passes says how many were.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::Limits;
use crate::error::Limit;

/// The share of one component.
#[derive(Debug)]
pub(crate) struct Allowance {
    calls: AtomicUsize,
    lines: Mutex<LineRate>,
}

/// A call that counts until this is dropped.
#[derive(Debug)]
pub(crate) struct RunningCall(Arc<Allowance>);

impl Drop for RunningCall {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Allowance {
    /// Nothing of it used.
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        let lines = Mutex::new(LineRate::new(limits.log_lines_per_second, Instant::now()));
        Arc::new(Self { calls: AtomicUsize::new(0), lines })
    }

    /// Takes the place of one call.
    pub(crate) fn begin_call(self: &Arc<Self>, limits: &Limits) -> Result<RunningCall, Limit> {
        let limit = limits.concurrent_calls;
        // Counted first and given back by the drop, so that two calls never share the last place.
        let running = self.calls.fetch_add(1, Ordering::AcqRel);
        let call = RunningCall(Arc::clone(self));
        if running < limit { Ok(call) } else { Err(Limit::ConcurrentCalls(limit)) }
    }

    /// Whether a line may be logged now; if so, how many were dropped since the last one.
    pub(crate) fn admit_line(&self) -> Option<u64> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now())
    }
}

/// A bucket that holds the lines of one second and is filled evenly.
#[derive(Debug)]
struct LineRate {
    per_second: f64,
    room: f64,
    filled: Instant,
    dropped: u64,
}

impl LineRate {
    fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, room: per_second, filled: now, dropped: 0 }
    }

    fn admit(&mut self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.room = passed.mul_add(self.per_second, self.room).min(self.per_second);
        self.filled = now;
        if self.room < 1.0 {
            self.dropped += 1;
            return None;
        }
        self.room -= 1.0;
        Some(std::mem::take(&mut self.dropped))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_pass_at_their_rate_and_the_dropped_ones_are_told() {
        let start = Instant::now();
        let mut rate = LineRate::new(10, start);
        let at_once: Vec<_> = (0..25).map(|_| rate.admit(start)).collect();
        assert_eq!(at_once.iter().flatten().count(), 10, "the lines of one second");
        assert_eq!(rate.admit(start + Duration::from_millis(99)), None);
        assert_eq!(rate.admit(start + Duration::from_millis(101)), Some(16));
        // A long silence gives no more than a second's lines.
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..25).filter_map(|_| rate.admit(later)).count(), 10);
        // Over ten seconds of a flood it is the rate.
        let passed = (1..=10_000).filter_map(|i| rate.admit(later + Duration::from_millis(i))).count();
        assert!((99..=101).contains(&passed), "{passed}");
    }

    #[test]
    fn places_are_given_back() {
        let limits = Limits { concurrent_calls: 2, ..Limits::router() };
        let allowance = Allowance::new(&limits);
        let (first, second) =
            (allowance.begin_call(&limits).unwrap(), allowance.begin_call(&limits).unwrap());
        assert_eq!(allowance.begin_call(&limits).unwrap_err(), Limit::ConcurrentCalls(2));
        drop(first);
        let third = allowance.begin_call(&limits).unwrap();
        assert_eq!(allowance.begin_call(&limits).unwrap_err(), Limit::ConcurrentCalls(2));
        drop((second, third));
        allowance.begin_call(&limits).unwrap();
    }
}
