//! Repetition, medians and the printed result of a bench.

use std::io::{Write, stdout};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

/// Options of every bench.
#[derive(clap::Args)]
pub(crate) struct Repetition {
    /// Counted runs, after one that warms up.
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What a bench found.
#[derive(Serialize)]
struct Measurement<'a> {
    bench: &'a str,
    tokens: usize,
    threads: usize,
    /// Tokens per second of the median run.
    tokens_per_second: f64,
    /// Milliseconds per token of the median run.
    milliseconds_per_token: f64,
    /// Seconds of every run in order.
    seconds: Vec<f64>,
}

impl Repetition {
    /// Times `run`, which handles `tokens` tokens, and prints the result.
    pub(crate) fn measure(
        &self,
        bench: &str,
        tokens: usize,
        threads: usize,
        mut run: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        run()?;
        let mut times = Vec::new();
        for _ in 0..self.repetitions.max(1) {
            let begin = Instant::now();
            run()?;
            times.push(begin.elapsed());
        }
        let median = median(&times).as_secs_f64();
        let measurement = Measurement {
            bench,
            tokens,
            threads,
            tokens_per_second: tokens as f64 / median,
            milliseconds_per_token: median * 1e3 / tokens as f64,
            seconds: times.iter().map(Duration::as_secs_f64).collect(),
        };
        let mut out = stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, &measurement)?;
            writeln!(out)?;
        } else {
            writeln!(
                out,
                "{bench}: {:.1} tokens/s, {:.3} ms per token (median of {} runs of {tokens} tokens, {threads} threads)",
                measurement.tokens_per_second,
                measurement.milliseconds_per_token,
                times.len(),
            )?;
        }
        Ok(())
    }
}

/// The middle of the times, the later of the two middle ones where their number is even.
pub(super) fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// The middle and the tail of times.
#[derive(Serialize)]
pub(super) struct Percentiles {
    pub(super) p50_microseconds: f64,
    pub(super) p99_microseconds: f64,
    pub(super) count: usize,
}

impl Percentiles {
    /// Of some times.
    pub(super) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |place: usize| times.get(place).copied().unwrap_or_default().as_secs_f64() * 1e6;
        let last = times.len().saturating_sub(1);
        Self {
            p50_microseconds: at(times.len() / 2),
            p99_microseconds: at((times.len() * 99 / 100).min(last)),
            count: times.len(),
        }
    }
}

/// Times each of `count` runs, after a tenth as many that warm up.
pub(super) fn time_each(count: usize, mut run: impl FnMut() -> Result<()>) -> Result<Vec<Duration>> {
    for _ in 0..count.div_ceil(10) {
        run()?;
    }
    let timed = |_| {
        let began = Instant::now();
        run()?;
        Ok(began.elapsed())
    };
    (0..count).map(timed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_sorted_times() {
        let times = (1..=200).rev().map(Duration::from_micros).collect();
        let found = Percentiles::of(times);
        assert_eq!((found.p50_microseconds.round(), found.p99_microseconds.round()), (101.0, 199.0));
        assert_eq!(Percentiles::of(Vec::new()).p99_microseconds, 0.0);
    }

    #[test]
    fn runs_that_warm_up_are_not_counted() {
        let mut runs = 0;
        let times = time_each(20, || {
            runs += 1;
            Ok(())
        });
        assert_eq!((times.unwrap().len(), runs), (20, 22));
    }
}
