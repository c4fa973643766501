//! `espalier component record`: traces of a model as a file.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use espalier_components::Probe;
use espalier_pruning::{Calibration, CalibrationRequest, RecordedTraces};

use crate::device::{DeviceArgs, ModelArgs, PrecisionArg};
use crate::device_choice::DeviceChoice;

/// Options of `component record`.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// HF directory or GGUF file.
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// Receives the traces; must not exist yet.
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
    /// What to record, by the names of the WIT; layers that have no such probe are left out.
    #[arg(long, value_delimiter = ',', value_name = "PROBE", default_value = "head-output,ffn-activation",
          value_parser = probe)]
    probes: Vec<Probe>,
    /// The text, several files allowed; without it a small built-in one is used.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    calibration: Vec<PathBuf>,
    /// Sequences.
    #[arg(long, value_name = "N", default_value_t = 2)]
    windows: usize,
    /// Tokens in each.
    #[arg(long, value_name = "N", default_value_t = 8)]
    window_tokens: usize,
    /// Seed of the draw of sequences.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where the model runs: auto, cpu, cuda or cuda:N; auto takes the first CUDA device if there is one.
    #[arg(long, value_name = "DEVICE", default_value_t)]
    device: DeviceChoice,
    /// Threads of the kernels; 0 takes every core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

/// `--probes`.
fn probe(name: &str) -> Result<Probe, String> {
    let recorded = || Probe::ALL.into_iter().filter(|probe| !probe.is_gradient());
    recorded().find(|probe| probe.name() == name).ok_or_else(|| {
        let names: Vec<_> = recorded().map(Probe::name).collect();
        format!("found \"{name}\", expected some of {}", names.join(", "))
    })
}

/// Runs `component record`.
pub(super) fn run(args: &Args) -> Result<()> {
    ensure!(
        args.out.symlink_metadata().is_err(),
        "--out {} exists already, expected a new path",
        args.out.display()
    );
    let device = DeviceArgs { device: args.device, threads: args.threads, precision: PrecisionArg::Exact };
    let (checkpoint, model) = ModelArgs { model: args.model.clone(), device }.load()?;
    let request =
        CalibrationRequest { windows: args.windows, window_tokens: args.window_tokens, seed: args.seed };
    let tokenizer = checkpoint.tokenizer()?;
    let calibration = Calibration::draw(&args.calibration, &tokenizer, checkpoint.spec(), &request)?;
    let traces = RecordedTraces::record(&model, &calibration, &args.probes, &mut |_, _, _| true)?;
    traces.write(&args.out).with_context(|| format!("--out {} cannot be written", args.out.display()))
}
