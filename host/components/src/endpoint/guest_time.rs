//! How long a call that can wait keeps a thread busy.
//!
//! A future runs whenever it is polled, on whatever thread; what lies between is waiting and costs nobody anything. So the
//! guest time of such a call is the time inside its polls. Long polls are sampled at the ticks of the host's clock as
//! [`crate::account`] does it, so that a busy machine is not held against the guest; short ones count as they are, with at
//! most one tick each.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::account::processor_time;

/// The time of one call. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct GuestTime(Arc<Mutex<Used>>);

#[derive(Default)]
struct Used {
    total: Duration,
    /// Set while the future is polled.
    sample: Option<Sample>,
}

/// The beginning of a poll, or the last tick in it.
struct Sample {
    at: Instant,
    processor: Option<Duration>,
}

impl GuestTime {
    /// The time used up to now, asked at a tick from inside a poll.
    pub(crate) fn tick(&self, tick: Duration) -> Duration {
        let mut used = self.used();
        let now = Sample { at: Instant::now(), processor: processor_time() };
        if let Some(last) = used.sample.take() {
            let passed = now.at.duration_since(last.at);
            used.total += match (last.processor, now.processor) {
                (Some(then), Some(now)) => passed.min(now.saturating_sub(then)),
                _ => passed.min(tick),
            };
        }
        used.sample = Some(now);
        used.total
    }

    /// The future whose polls count; `tick` is the time between two ticks.
    pub(crate) fn of<F: Future>(&self, future: F, tick: Duration) -> Timed<F> {
        Timed { future: Box::pin(future), time: self.clone(), tick }
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A future that counts the time of its polls.
pub(crate) struct Timed<F> {
    future: Pin<Box<F>>,
    time: GuestTime,
    tick: Duration,
}

impl<F: Future> Future for Timed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.time.used().sample = Some(Sample { at: Instant::now(), processor: None });
        let answer = self.future.as_mut().poll(context);
        let mut used = self.time.used();
        if let Some(last) = used.sample.take() {
            used.total += last.at.elapsed().min(self.tick);
        }
        drop(used);
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use super::*;

    const TICK: Duration = Duration::from_millis(5);

    fn compute(time: Duration) {
        let started = Instant::now();
        while started.elapsed() < time {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn polls_count_and_what_lies_between_does_not() {
        let time = GuestTime::default();
        let mut polls = 0;
        let work = poll_fn(|_| {
            compute(Duration::from_millis(2));
            polls += 1;
            if polls < 4 { Poll::Pending } else { Poll::Ready(()) }
        });
        let mut timed = std::pin::pin!(time.of(work, TICK));
        let mut context = Context::from_waker(Waker::noop());
        while timed.as_mut().poll(&mut context).is_pending() {
            std::thread::sleep(Duration::from_millis(10));
        }
        let total = time.used().total;
        assert!((Duration::from_millis(8)..=4 * TICK).contains(&total), "{total:?}");
    }

    #[test]
    fn a_long_poll_is_seen_at_its_ticks() {
        let time = GuestTime::default();
        let seen = time.clone();
        let work = poll_fn(|_| {
            for _ in 0..20 {
                compute(TICK);
                seen.tick(TICK);
            }
            Poll::Ready(())
        });
        let mut timed = std::pin::pin!(time.of(work, TICK));
        assert!(timed.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        let total = time.used().total;
        // Of a hundred milliseconds; the machine may be busy with something else for most of them.
        assert!(total >= TICK, "{total:?}");
    }
}
