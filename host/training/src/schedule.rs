//! The learning rate of each step: a linear warm-up, then half a cosine.

use std::f64::consts::PI;

/// A schedule over a run of known length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The rate at the end of the warm-up.
    pub learning_rate: f32,
    /// Steps of the warm-up.
    pub warmup_steps: u64,
    /// Steps of the run.
    pub steps: u64,
    /// The rate of the last step, as a share of `learning_rate`.
    pub final_share: f32,
}

impl Schedule {
    /// The rate of step `step`, counted from 1.
    #[must_use]
    pub fn rate(&self, step: u64) -> f32 {
        if step <= self.warmup_steps {
            return self.learning_rate * (step as f64 / self.warmup_steps as f64) as f32;
        }
        let left = self.steps.saturating_sub(self.warmup_steps).max(1);
        let progress = ((step - self.warmup_steps) as f64 / left as f64).min(1.0);
        let cosine = 0.5 * (1.0 + (PI * progress).cos());
        let share = f64::from(self.final_share);
        (f64::from(self.learning_rate) * (share + (1.0 - share) * cosine)) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_evenly_and_falls_to_its_last_share() {
        let schedule = Schedule { learning_rate: 0.4, warmup_steps: 4, steps: 24, final_share: 0.1 };
        let rates: Vec<f32> = (1..=24).map(|step| schedule.rate(step)).collect();
        assert_eq!(rates[..4], [0.1, 0.2, 0.3, 0.4].map(|rate: f32| rate));
        assert!((rates[13] - 0.22).abs() < 1e-6, "half of the way between 0.4 and 0.04: {}", rates[13]);
        assert!((rates[23] - 0.04).abs() < 1e-7);
        assert!(rates[3..].windows(2).all(|pair| pair[1] < pair[0]));
        let without = Schedule { warmup_steps: 0, steps: 1, ..schedule };
        assert!((without.rate(1) - 0.04).abs() < 1e-7);
    }
}
