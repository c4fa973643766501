//! What one call into a guest has used: time, host calls, log lines, generated tokens.
//!
//! Guest time is what the guest's thread computed outside host calls. On Linux it is taken from the thread's share of
//! the processor, so that a busy machine does not stop a guest that never got to run; elsewhere it is the time that
//! passed. It is sampled at every tick of the host's clock, so it is exact to about a tick.

use std::fs;
use std::time::{Duration, Instant};

use crate::Limits;
use crate::error::Limit;

/// A guest that was let run for so many times its limit of guest time is stopped even if it hardly got a processor.
const STARVED: u32 = 10;

/// The account of one call.
pub(crate) struct Account {
    started: Instant,
    in_host: Duration,
    /// Time that does not count towards the wall time.
    granted: Duration,
    host_calls: u64,
    log_lines: u64,
    generated_tokens: u64,
    guest: Duration,
    sampled: Option<Sample>,
}

/// The state at the last tick.
struct Sample {
    at: Instant,
    in_host: Duration,
    processor: Option<Duration>,
}

impl Account {
    /// Starts with a new call.
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            in_host: Duration::ZERO,
            granted: Duration::ZERO,
            host_calls: 0,
            log_lines: 0,
            generated_tokens: 0,
            guest: Duration::ZERO,
            sampled: None,
        }
    }

    /// Counts a host call that begins now.
    pub(crate) fn enter_host(&mut self, limits: &Limits) -> Result<Instant, Limit> {
        let now = Instant::now();
        self.host_calls += 1;
        if self.host_calls > limits.host_calls {
            return Err(Limit::HostCalls(limits.host_calls));
        }
        if self.is_over(now, limits) {
            return Err(Limit::WallTime(limits.wall_time));
        }
        Ok(now)
    }

    /// Lets the call take so much longer: what a host call took that the operator wants, however long it takes.
    pub(crate) fn grant(&mut self, time: Duration) {
        self.granted += time;
    }

    fn is_over(&self, now: Instant, limits: &Limits) -> bool {
        now.duration_since(self.started).saturating_sub(self.granted) > limits.wall_time
    }

    /// Gives the time since then back to the guest.
    pub(crate) fn leave_host(&mut self, entered: Instant) {
        self.in_host += entered.elapsed();
    }

    /// Counts a log line and returns how many there are.
    pub(crate) fn count_log_line(&mut self) -> u64 {
        self.log_lines += 1;
        self.log_lines
    }

    /// Counts the tokens that a session may generate.
    pub(crate) fn count_generated_tokens(&mut self, tokens: u32, limits: &Limits) -> Result<(), Limit> {
        let wanted = self.generated_tokens.saturating_add(u64::from(tokens));
        if wanted > limits.generated_tokens {
            return Err(Limit::GeneratedTokens(limits.generated_tokens));
        }
        self.generated_tokens = wanted;
        Ok(())
    }

    /// Takes a sample at a tick, while the guest runs; fails when a time limit is reached.
    pub(crate) fn tick(&mut self, limits: &Limits) -> Result<(), Limit> {
        let sample = Sample { at: Instant::now(), in_host: self.in_host, processor: processor_time() };
        self.guest += match (&self.sampled, sample.processor) {
            (Some(last), Some(processor)) => {
                let passed = sample.passed_since(last);
                last.processor.map_or(passed, |then| passed.min(processor.saturating_sub(then)))
            }
            (Some(last), None) => sample.passed_since(last),
            // At most one tick of computing, and any length of waiting for a processor.
            (None, Some(_)) => Duration::ZERO,
            (None, None) => self.started.elapsed().saturating_sub(self.in_host),
        };
        let (sample_at, passed) = (sample.at, sample.at.duration_since(self.started));
        self.sampled = Some(sample);
        let starved = passed.saturating_sub(self.in_host) > limits.guest_time.saturating_mul(STARVED);
        if self.guest > limits.guest_time || starved {
            return Err(Limit::GuestTime(limits.guest_time));
        }
        if self.is_over(sample_at, limits) {
            return Err(Limit::WallTime(limits.wall_time));
        }
        Ok(())
    }
}

impl Sample {
    /// The time outside host calls.
    fn passed_since(&self, last: &Self) -> Duration {
        self.at.duration_since(last.at).saturating_sub(self.in_host.saturating_sub(last.in_host))
    }
}

/// The time that this thread has had a processor, where the system tells it.
pub(crate) fn processor_time() -> Option<Duration> {
    // The first of three numbers, in nanoseconds (Linux, Documentation/scheduler/sched-stats.rst).
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            guest_time: Duration::from_millis(40),
            wall_time: Duration::from_millis(300),
            ..Limits::router()
        }
    }

    fn compute(time: Duration) {
        let started = Instant::now();
        while started.elapsed() < time {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn computing_counts_until_the_limit() {
        let mut account = Account::new();
        let started = Instant::now();
        let limit = loop {
            compute(Duration::from_millis(2));
            if let Err(limit) = account.tick(&limits()) {
                break limit;
            }
        };
        assert_eq!(limit, Limit::GuestTime(Duration::from_millis(40)));
        assert!(started.elapsed() >= Duration::from_millis(38), "{:?}", started.elapsed());
    }

    #[test]
    fn time_in_the_host_is_given_back() {
        let mut account = Account::new();
        account.tick(&limits()).unwrap();
        for _ in 0..3 {
            let entered = account.enter_host(&limits()).unwrap();
            compute(Duration::from_millis(30));
            account.leave_host(entered);
            account.tick(&limits()).unwrap();
        }
    }

    #[test]
    fn waiting_counts_towards_the_wall_time_only() {
        let mut account = Account::new();
        account.tick(&limits()).unwrap();
        std::thread::sleep(Duration::from_millis(310));
        let limit = account.tick(&limits()).unwrap_err();
        let expected = if processor_time().is_some() {
            Limit::WallTime(Duration::from_millis(300))
        } else {
            Limit::GuestTime(Duration::from_millis(40))
        };
        assert_eq!(limit, expected);
        assert_eq!(account.enter_host(&limits()).unwrap_err(), Limit::WallTime(Duration::from_millis(300)));
    }

    #[test]
    fn granted_time_does_not_count_towards_the_wall_time() {
        let mut account = Account::new();
        std::thread::sleep(Duration::from_millis(310));
        account.grant(Duration::from_millis(200));
        account.enter_host(&limits()).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(account.enter_host(&limits()).unwrap_err(), Limit::WallTime(Duration::from_millis(300)));
    }

    #[test]
    fn host_calls_are_counted() {
        let limits = Limits { host_calls: 2, ..limits() };
        let mut account = Account::new();
        account.enter_host(&limits).unwrap();
        account.enter_host(&limits).unwrap();
        assert_eq!(account.enter_host(&limits).unwrap_err(), Limit::HostCalls(2));
    }
}
