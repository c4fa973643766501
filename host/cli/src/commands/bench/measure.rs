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
