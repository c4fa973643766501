//! How long it takes until one of the requests leaves, while there are enough to be busy with.

use std::time::{Duration, Instant};

/// A mean of the recent times between two ends, in which each new one weighs a tenth.
#[derive(Debug, Default)]
pub(crate) struct Turnover {
    last: Option<Instant>,
    mean: Option<Duration>,
}

impl Turnover {
    const WEIGHT: u32 = 10;

    /// A request ended.
    pub(crate) fn ended(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            let new = now - last;
            self.mean = Some(self.mean.map_or(new, |mean| (mean * (Self::WEIGHT - 1) + new) / Self::WEIGHT));
        }
    }

    /// There is nothing to do: the time until the next end is no measure.
    pub(crate) fn idle(&mut self) {
        self.last = None;
    }

    /// The mean, once there is one.
    pub(crate) fn interval(&self) -> Option<Duration> {
        self.mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_busy_times_count() {
        let (mut turnover, begin) = (Turnover::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        turnover.ended(at(0));
        assert_eq!(turnover.interval(), None);
        turnover.ended(at(2));
        turnover.idle();
        turnover.ended(at(1000));
        assert_eq!(turnover.interval(), Some(Duration::from_secs(2)));
        turnover.ended(at(1012));
        assert_eq!(turnover.interval(), Some(Duration::from_secs(3)));
    }
}
