//! `espalier evaluate`: quality, speed and memory of a model, beside a baseline if one is named.

use std::fs;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use espalier_evaluation::{EvaluationRequest, Step, Subject, TimingRequest, evaluate};

use crate::component_file;
use crate::device_choice::DeviceChoice;
use crate::progress_bar::Bar;

/// Options of `evaluate`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// HF directory or GGUF file; several allowed, one row each.
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    model: Vec<PathBuf>,
    /// The model to compare with.
    #[arg(long, value_name = "PATH")]
    baseline: Option<PathBuf>,
    /// What to measure on: plain text or, in a file that ends in .jsonl, samples with prompt, reference and, to be measured
    /// in place of the model's answer, candidate.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Metric components, by file or name [default: perplexity, and agreement with --baseline].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    metrics: Option<Vec<String>>,
    /// Use only so many tokens from the start of the text.
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Most tokens of a model's answer to a sample or a prompt.
    #[arg(long, value_name = "N", default_value_t = EvaluationRequest::ANSWER_TOKENS)]
    answer_tokens: usize,
    /// A text that every model is asked to go on with, in the report side by side; several allowed.
    #[arg(long, value_name = "TEXT")]
    prompt: Vec<String>,
    /// Leave out the measurement of speed.
    #[arg(long)]
    no_timing: bool,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Also write the report as one self-contained HTML file.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Where models run: auto, cpu, cuda or cuda:N; auto takes the first CUDA device if there is one.
    #[arg(long, value_name = "DEVICE", default_value_t)]
    device: DeviceChoice,
    /// Threads of the kernels; 0 takes every core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

impl Args {
    fn metrics(&self) -> Vec<String> {
        self.metrics.clone().unwrap_or_else(|| {
            let agreement = self.baseline.as_ref().map(|_| "agreement");
            ["perplexity"].into_iter().chain(agreement).map(str::to_owned).collect()
        })
    }
}

/// Runs `evaluate`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let metrics = component_file::evaluation_metrics(&args.metrics())?;
    let subjects: Vec<Subject> = args.model.iter().map(subject).collect();
    let baseline = args.baseline.as_deref().map(subject);
    let request = EvaluationRequest {
        data: args.data.clone(),
        max_tokens: args.max_tokens,
        answer_tokens: args.answer_tokens,
        prompts: args.prompt.clone(),
        timing: (!args.no_timing).then(TimingRequest::default),
    };
    let mut bar = Bar::new();
    let mut progress = |step: Step<'_>| {
        bar.show(&format!("{} {}", step.subject, step.what), step.done, step.total);
        true
    };
    let device = args.device.open(args.threads)?;
    let report = evaluate(&device, baseline.as_ref(), &subjects, &metrics, &request, &mut progress)?;
    bar.clear();
    if let Some(path) = &args.report {
        fs::write(path, report.to_html())
            .with_context(|| format!("--report {} cannot be written", path.display()))?;
    }
    let mut out = stdout().lock();
    if args.json {
        writeln!(out, "{}", report.to_json()?)?;
    } else {
        write!(out, "{}", report.to_text())?;
    }
    out.flush().context("standard output was closed")
}

/// A model is called by its directory's or file's name, without the extension.
fn subject(path: impl AsRef<Path>) -> Subject {
    let path = path.as_ref();
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    Subject { name: name.unwrap_or(path.as_os_str()).to_string_lossy().into_owned(), path: path.to_owned() }
}
