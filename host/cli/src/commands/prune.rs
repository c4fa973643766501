//! `espalier prune`: make a smaller checkpoint.

use std::fs;
use std::io::{Write, stderr, stdout};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use espalier_components::ScoringPolicy;
use espalier_model::Checkpoint;
use espalier_pruning::{
    Aim, Allocation, Budgets, CalibrationRequest, Constraints, Count, Layout, ModelSource, Phase, Plan,
    Progress, Protected, PruneRequest, Refit, RefitRequest, StorageType, Surgery, Target, Unit, derive_plan,
    refit_plan, surgery_with,
};

use crate::component_file;
use crate::device_choice::DeviceChoice;
use crate::progress_bar::Bar;
use crate::protected_layers::protected_layers;

use super::recipe::{self, RecipeArguments};

/// Options of `prune`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// HF directory or GGUF file.
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// The scoring policy: a component file, or the name of a built one. Of several the first that scores a kind of unit is
    /// asked for it: `block-influence,wanda`.
    #[arg(long, value_delimiter = ',', value_name = "NAME", required_unless_present_any = ["plan", "recipe"])]
    policy: Vec<String>,
    /// The kinds of units that may go: layer, head, kv-group, ffn-channel, expert, expert-channel.
    #[arg(long, value_delimiter = ',', value_name = "KIND", required_unless_present_any = ["plan", "keep_count", "recipe"])]
    units: Vec<Unit>,
    /// The share of all parameters that may stay, above 0 and at most 1.
    #[arg(long, required_unless_present_any = ["plan", "keep_count", "recipe", "target"])]
    keep: Option<f64>,
    /// Search the plan with the least predicted loss within these limits: parameters, memory, flops and latency, absolute or
    /// as multiples of the unpruned model's, such as `memory<=11GiB,latency<=0.75x`. The choices that nothing beats are
    /// printed before anything is cut.
    #[arg(long, value_name = "LIMITS", conflicts_with_all = ["keep", "keep_count", "plan", "recipe"])]
    target: Option<Budgets>,
    /// How --keep is spread over the layers: uniform, global (by scores) or sensitivity (by measured losses); the latter two
    /// need `--layout espalier`.
    #[arg(long, default_value = "uniform", value_parser = allocation, conflicts_with_all = ["plan", "recipe"])]
    allocation: Allocation,
    /// Units that must stay: a kind, and layers where not all are meant. Several allowed: `layer=0:1,ffn-channel=29`.
    #[arg(long, value_delimiter = ',', value_name = "KIND=LAYERS", value_parser = protected_layers,
          conflicts_with_all = ["plan", "recipe"])]
    protect: Vec<Protected>,
    /// How many units of a kind stay: layers in all; experts, heads, groups and channels in each layer; channels in each
    /// expert. Several allowed: `expert=24,head=56`. One count for each layer (`expert=24:24:20`) needs
    /// `--layout espalier`.
    #[arg(long, value_delimiter = ',', value_name = "KIND=N", value_parser = keep_count)]
    keep_count: Vec<(Unit, Count)>,
    /// Go through the stages of a recipe: a TOML file, or seed, memory-first, latency-first, balanced or edge. --out gets the
    /// models of all stages, `model`, which is the last good one, and the report.
    #[arg(long, value_name = "NAME",
          conflicts_with_all = ["policy", "units", "keep", "keep_count", "plan", "plan_only", "dtype", "layout", "requantize",
                                "refit", "windows", "window_tokens", "seed", "ffn_channel_multiple"])]
    recipe: Option<String>,
    /// The text that the stages of a recipe are measured on, in place of the recipe's own.
    #[arg(long, value_name = "FILE", requires = "recipe")]
    data: Option<PathBuf>,
    /// Go on with the recipe's run that --out holds.
    #[arg(long, requires = "recipe")]
    resume: bool,
    /// Cut by this plan, as --plan-only printed it or as it was edited since, instead of making one.
    #[arg(long, value_name = "FILE.json",
          conflicts_with_all = ["policy", "units", "keep", "keep_count", "plan_only", "dtype", "layout", "requantize"])]
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
    /// Makes the draw of calibration windows repeatable, and a policy that draws at random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Fit the projections behind the heads, groups and channels that go anew on the calibration text, by least squares.
    #[arg(long, conflicts_with = "plan_only")]
    refit: bool,
    /// How strongly --refit holds weights where they were, relative to the mean square of what they multiply.
    #[arg(long, value_name = "SHARE", default_value_t = RefitRequest::default().ridge, requires = "refit")]
    ridge: f64,
    /// With --refit, let the biases of the experts that stay make up for the mean of those that go.
    #[arg(long, requires = "refit")]
    expert_mean: bool,
    /// With --refit, leave weights as they are and let biases make up for the mean of what goes, as FLAP does; projections
    /// without a bias stay as they are.
    #[arg(long, requires = "refit")]
    bias_only: bool,
    /// The channels kept are a multiple of this.
    #[arg(long, value_name = "N", default_value_t = Constraints::default().ffn_channel_multiple)]
    ffn_channel_multiple: usize,
    /// Choose the channels of MXFP4 experts one by one instead of in aligned groups of 32, and quantise what is left of
    /// their down projections again.
    #[arg(long)]
    requantize: bool,
    /// Who is to load the result: portable (HF transformers, vLLM and llama.cpp too) or espalier (nobody else).
    #[arg(long, default_value = "portable", value_parser = layout)]
    layout: Layout,
    /// Number format of the new checkpoint: source (as before, MXFP4 included), bf16, f16 or f32.
    #[arg(long, visible_alias = "storage", default_value = "source", value_parser = storage_type)]
    dtype: StorageType,
    /// Print the plan as JSON and cut nothing.
    #[arg(long, conflicts_with = "out")]
    plan_only: bool,
    /// Where models run: auto, cpu, cuda or cuda:N; auto takes the first CUDA device if there is one.
    #[arg(long, value_name = "DEVICE", default_value_t)]
    device: DeviceChoice,
    /// Threads of the kernels; 0 takes every core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

impl Args {
    fn calibration_request(&self) -> CalibrationRequest {
        CalibrationRequest { windows: self.windows, window_tokens: self.window_tokens, seed: self.seed }
    }
}

/// `--dtype`.
fn storage_type(name: &str) -> Result<StorageType, String> {
    StorageType::parse(name)
        .ok_or_else(|| format!("\"{name}\" is not a number format; expected source, bf16, f16 or f32"))
}

/// `--allocation`.
fn allocation(name: &str) -> Result<Allocation, String> {
    Allocation::parse(name)
        .ok_or_else(|| format!("\"{name}\" is not an allocation; expected uniform, global or sensitivity"))
}

/// `--layout`.
fn layout(name: &str) -> Result<Layout, String> {
    Layout::parse(name).ok_or_else(|| format!("\"{name}\" is not a layout; expected portable or espalier"))
}

/// `--keep-count`.
fn keep_count(text: &str) -> Result<(Unit, Count), String> {
    let expected =
        || format!("\"{text}\" is not a count; expected KIND=N, or KIND=N:N:… with one count for each layer");
    let (unit, counts) = text.split_once('=').ok_or_else(expected)?;
    let unit: Unit = unit.parse().map_err(|error| format!("{error}"))?;
    let counts: Result<Vec<usize>, _> = counts.split(':').map(str::parse).collect();
    match counts.map_err(|_| expected())?.as_slice() {
        [count] => Ok((unit, Count::Uniform(*count))),
        counts => Ok((unit, Count::PerLayer(counts.to_vec()))),
    }
}

/// Runs `prune`.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let (Some(recipe), Some(out)) = (&args.recipe, &args.out) {
        return recipe::run(&RecipeArguments {
            recipe,
            model: &args.model,
            calibration: &args.calibration,
            data: args.data.as_deref(),
            out,
            resume: args.resume,
            device: args.device,
            threads: args.threads,
        });
    }
    let checkpoint = Arc::new(Checkpoint::open(&args.model)?);
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
            let fitted = match args.refit {
                true => Some(fit(args, &checkpoint, &plan, &mut progress)?),
                false => None,
            };
            let done = surgery_with(&plan, &checkpoint, fitted.as_ref(), directory, &mut progress)?;
            bar.clear();
            write!(out, "{}", summary(&plan, &checkpoint, &done))?;
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
fn make_plan(args: &Args, checkpoint: &Arc<Checkpoint>, progress: &mut dyn Progress) -> Result<Plan> {
    let mut target = Target { keep: args.keep, ..Target::default() };
    for (unit, count) in &args.keep_count {
        let again = target.counts.insert(*unit, count.clone());
        ensure!(again.is_none(), "--keep-count names {unit} twice; expected each kind once");
    }
    if let Some(out) = &args.out {
        ensure!(
            out.symlink_metadata().is_err(),
            "--out {} exists already; expected a new path",
            out.display()
        );
    }
    let policies = args.policy.iter().map(|name| component_file::scoring_policy(name));
    let policies = policies.collect::<Result<Vec<_>>>()?;
    let policies: Vec<&ScoringPolicy> = policies.iter().collect();
    let request = PruneRequest {
        units: args.units.clone(),
        aim: args.target.clone().map_or(Aim::Target(target), Aim::Budgets),
        allocation: args.allocation,
        protected: args.protect.clone(),
        constraints: Constraints {
            ffn_channel_multiple: args.ffn_channel_multiple,
            lossless: !args.requantize,
            layout: args.layout,
            ..Constraints::default()
        },
        storage: args.dtype,
        calibration_files: args.calibration.clone(),
        calibration: args.calibration_request(),
        refit: None,
    };
    let model = ModelSource::Load(args.device.open(args.threads)?);
    let derivation = derive_plan(checkpoint, &model, &policies, &request, progress)?;
    if let Some(search) = &derivation.search {
        // Standard output may be the plan itself.
        write!(stderr(), "{}", search.to_text())?;
    }
    Ok(derivation.plan)
}

/// Fits what the plan leaves.
fn fit(args: &Args, checkpoint: &Arc<Checkpoint>, plan: &Plan, progress: &mut dyn Progress) -> Result<Refit> {
    let model = ModelSource::Load(args.device.open(args.threads)?);
    let calibration = args.calibration_request();
    let how = RefitRequest { ridge: args.ridge, expert_mean: args.expert_mean, bias_only: args.bias_only };
    Ok(refit_plan(checkpoint, &model, plan, &args.calibration, &calibration, how, progress)?)
}

/// What was done, in a few lines.
fn summary(plan: &Plan, checkpoint: &Checkpoint, done: &Surgery) -> String {
    let line = |what: &str, before: u64, after: u64| {
        let share = after as f64 / before.max(1) as f64 * 100.0;
        format!("{what:<20} {before:>16} -> {after:>16}  ({share:.1} %)\n")
    };
    let (before, after) = (&plan.before, &plan.after);
    let mut text = line("parameters", before.parameters, after.parameters);
    text += &line("active parameters", before.active_parameters, after.active_parameters);
    text += &line("bytes", before.bytes, after.bytes);
    text += &line("FLOPs per token", before.flops_per_token, after.flops_per_token);
    let (old, new) = (checkpoint.spec(), &done.spec);
    text += &line("layers", old.layers.len() as u64, new.layers.len() as u64);
    if let (Some(old), Some(new)) = (old.layers.first(), new.layers.first()) {
        let mut count =
            |what: &str, before: usize, after: usize| text += &line(what, before as u64, after as u64);
        count("heads", old.heads, new.heads);
        count("key/value groups", old.kv_heads, new.kv_heads);
        if let (Some(old), Some(new)) = (old.experts, new.experts) {
            count("experts", old.count, new.count);
        }
        count("channels", old.ffn_size, new.ffn_size);
    }
    if let Some(requantized) = done.requantized {
        text += &format!(
            "requantised          {} tensors, relative RMS error {:.4}\n",
            requantized.tensors, requantized.relative_rms_error
        );
    }
    text
}
