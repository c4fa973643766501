//! `espalier train`: LoRA, full-weight and from-scratch training by a configuration file.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use espalier_training::{Cancellation, Configuration, TrainingProgress, TrainingSummary, train};

use crate::process_environment;
use crate::progress_bar::Bar;

/// Seconds between two lines of the log where no terminal shows the progress.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Options of `train`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to train, on which texts and how, in TOML.
    #[arg(long, value_name = "FILE.toml")]
    config: PathBuf,
    /// Where the model, the adapter and the run's checkpoints go. A run that was interrupted goes on in the same directory.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs `train`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let configuration = Configuration::read(&args.config)?;
    process_environment::restart_for_training();
    let mut bar = Bar::new();
    let (begun, mut logged) = (Instant::now(), None);
    let summary = train(&configuration, &args.out, &Cancellation::default(), &mut |progress| {
        if stderr().is_terminal() {
            bar.show_with("training", progress.step, progress.steps, &figures(progress));
        } else if logged.is_none_or(|at: Instant| at.elapsed() >= LOG_INTERVAL)
            || progress.step == progress.steps
        {
            logged = Some(Instant::now());
            let left = progress.seconds_left.round();
            tracing::info!(
                "step {} of {}: {}, {left} s left",
                progress.step,
                progress.steps,
                figures(progress)
            );
        }
        true
    });
    bar.clear();
    let mut out = stdout().lock();
    write!(out, "{}", text_of(&summary?, begun.elapsed()))?;
    writeln!(out, "written to {}", args.out.join("model").display())?;
    out.flush().context("standard output was closed")
}

fn figures(progress: &TrainingProgress) -> String {
    format!(
        "loss {:.4}, learning rate {:.2e}, {:.0} tokens/s",
        progress.loss, progress.learning_rate, progress.tokens_per_second
    )
}

fn text_of(summary: &TrainingSummary, elapsed: Duration) -> String {
    let mut text = format!("trained parameters  {}\n", summary.trained_parameters);
    if summary.resumed_at > 0 {
        text += &format!("resumed after step  {}\n", summary.resumed_at);
    }
    if let (Some(first), Some(last)) = (summary.first_loss, summary.last_loss) {
        text += &format!("loss                {first:.4} -> {last:.4}\n");
    }
    text + &format!("seconds             {:.1}\n", elapsed.as_secs_f64())
}
