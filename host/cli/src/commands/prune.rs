//! `espalier prune`: make a smaller checkpoint.

use std::fs;
use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use espalier_kernels::Cpu;
use espalier_model::{Checkpoint, Model};
use espalier_pruning::{
    CalibrationRequest, Constraints, Phase, Plan, Progress, PruneRequest, Selection, StorageType, Unit,
    derive_plan, surgery,
};

use crate::component_file;
use crate::progress_bar::Bar;

/// Options of `prune`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// HF directory or GGUF file.
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// The scoring policy: a component file, or the name of a built one.
    #[arg(long, value_name = "NAME", required_unless_present = "plan")]
    policy: Option<String>,
    /// The kinds of units that may go: head, ffn-channel.
    #[arg(long, value_delimiter = ',', required_unless_present = "plan")]
    units: Vec<Unit>,
    /// The share of all parameters that may stay, above 0 and at most 1.
    #[arg(long, required_unless_present = "plan")]
    keep: Option<f64>,
    /// Cut by this plan, as --plan-only printed it or as it was edited since, instead of making one.
    #[arg(long, value_name = "FILE.json", conflicts_with_all = ["policy", "units", "keep", "plan_only"])]
    plan: Option<PathBuf>,
    /// The new checkpoint's directory; must not exist yet.
    #[arg(long, value_name = "DIR", required_unless_present = "plan_only")]
    out: Option<PathBuf>,
    /// Calibration text, several allowed; without it a small built-in one is used.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    calibration: Vec<PathBuf>,
    /// Calibration windows.
    #[arg(long, value_name = "N", default_value_t = CalibrationRequest::default().windows)]
    windows: usize,
    /// Tokens in a calibration window.
    #[arg(long, value_name = "N", default_value_t = CalibrationRequest::default().window_tokens)]
    window_tokens: usize,
    /// Makes the draw of calibration windows repeatable.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The channels kept are a multiple of this.
    #[arg(long, value_name = "N", default_value_t = Constraints::default().ffn_channel_multiple)]
    ffn_channel_multiple: usize,
    /// Number format of the new checkpoint: bf16, f16 or f32.
    #[arg(long, default_value = "bf16", value_parser = storage_type)]
    dtype: StorageType,
    /// Print the plan as JSON and cut nothing.
    #[arg(long, conflicts_with = "out")]
    plan_only: bool,
    /// Threads of the kernels; 0 takes every core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

/// `--dtype`.
fn storage_type(name: &str) -> Result<StorageType, String> {
    StorageType::parse(name)
        .ok_or_else(|| format!("\"{name}\" is not a number format; expected bf16, f16 or f32"))
}

/// Runs `prune`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let checkpoint = Checkpoint::open(&args.model)?;
    let mut bar = Bar::new();
    let mut progress = |phase: Phase, done: u64, total: u64| {
        bar.show(phase.name(), done, Some(total));
        true
    };
    let plan = match &args.plan {
        Some(path) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("--plan {} cannot be read", path.display()))?;
            Plan::from_json(&text).with_context(|| format!("--plan {}", path.display()))?
        }
        None => make_plan(args, &checkpoint, &mut progress)?,
    };
    let mut out = stdout().lock();
    match &args.out {
        Some(directory) => {
            surgery(&plan, &checkpoint, directory, &mut progress)?;
            bar.clear();
            write!(out, "{}", summary(&plan))?;
            writeln!(out, "written to {}", directory.display())?;
        }
        None => {
            bar.clear();
            write!(out, "{}", plan.to_json()?)?;
        }
    }
    out.flush().context("standard output was closed")
}

/// Calibrates and plans; refuses an output that exists before minutes of calibration.
fn make_plan(args: &Args, checkpoint: &Checkpoint, progress: &mut dyn Progress) -> Result<Plan> {
    let (Some(policy), Some(keep)) = (&args.policy, args.keep) else {
        bail!("--policy and --keep are missing; expected both, or --plan");
    };
    if let Some(out) = &args.out {
        ensure!(
            out.symlink_metadata().is_err(),
            "--out {} exists already; expected a new path",
            out.display()
        );
    }
    let policy = component_file::scoring_policy(policy)?;
    let model = Model::load(checkpoint, Cpu::new(args.threads)?)?;
    let request = PruneRequest {
        units: args.units.clone(),
        keep,
        constraints: Constraints {
            ffn_channel_multiple: args.ffn_channel_multiple,
            ..Constraints::default()
        },
        storage: args.dtype,
        calibration_files: args.calibration.clone(),
        calibration: CalibrationRequest {
            windows: args.windows,
            window_tokens: args.window_tokens,
            seed: args.seed,
        },
    };
    Ok(derive_plan(&model, &checkpoint.tokenizer()?, &policy, &request, progress)?)
}

/// What a plan does, in a few lines.
fn summary(plan: &Plan) -> String {
    let line = |what: &str, before: u64, after: u64| {
        let share = after as f64 / before.max(1) as f64 * 100.0;
        format!("{what:<18} {before:>16} -> {after:>16}  ({share:.1} %)\n")
    };
    let (before, after) = (&plan.before, &plan.after);
    let mut text = line("parameters", before.parameters, after.parameters);
    text += &line(&format!("bytes in {}", plan.storage.name()), before.bytes, after.bytes);
    text += &line("FLOPs per token", before.flops_per_token, after.flops_per_token);
    if let Some(layer) = plan.layers.first() {
        let count = |selection: &Selection| (selection.count as u64, selection.kept_count() as u64);
        let ((heads, heads_kept), (channels, channels_kept)) =
            (count(&layer.heads), count(&layer.ffn_channels));
        text += &line("heads per layer", heads, heads_kept);
        text += &line("channels per layer", channels, channels_kept);
    }
    text
}
