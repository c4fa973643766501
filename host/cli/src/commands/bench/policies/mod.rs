//! Scoring policies side by side: what the model loses at the same budget, and how well the scores agree with what it loses
//! without single units.
//!
//! Nothing is written: the units with the lowest scores are taken out of the forward pass, in layers that are protected
//! none, whatever the policy. The loss is measured on text that the policies did not see. Agreement is Spearman's rank
//! correlation inside a layer, over units that are evenly spread, averaged over layers; for whole layers it is over the
//! layers. Protection does not touch it.

mod lowest;
mod spearman;
mod table;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use espalier_components::{AblatedUnit, Ablation, ScoringPolicy};
use espalier_model::{Checkpoint, Model};
use espalier_pruning::{
    Calibration, CalibrationRequest, ModelAblation, Phase, Protected, Scores, Unit, score_units, unit_count,
};
use serde::Serialize;

use self::lowest::lowest;
use self::spearman::spearman;
use crate::component_file;
use crate::device::ModelArgs;
use crate::protected_layers::protected_layers;

/// Options of `bench policies`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The policies: component files or names of built ones, comma-separated.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', required = true)]
    policies: Vec<String>,
    /// The kind of unit that goes.
    #[arg(long)]
    unit: Unit,
    /// The shares that go, of the units of each layer, or of all layers where whole ones go: a table for each. Several
    /// allowed: `0.1,0.25`.
    #[arg(long, value_delimiter = ',', default_value = "0.25", value_name = "SHARES")]
    remove: Vec<f64>,
    /// Units that no policy may take, as in `prune`: `ffn-channel=0:1:29` keeps layers 0, 1 and 29 as they are. The other
    /// layers lose their share all the same.
    #[arg(long, value_delimiter = ',', value_name = "KIND=LAYERS", value_parser = protected_layers)]
    protect: Vec<Protected>,
    /// Calibration texts [default: a built-in one].
    #[arg(long, value_name = "FILE")]
    calibration: Vec<PathBuf>,
    /// Calibration windows.
    #[arg(long, default_value_t = 16)]
    windows: usize,
    /// Text on which losses are measured, which should be another one.
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// Windows of that text.
    #[arg(long, default_value_t = 8)]
    text_windows: usize,
    /// Tokens in a window of either text.
    #[arg(long, default_value_t = 256)]
    window_tokens: usize,
    /// Layers whose units are taken out one by one, evenly spread.
    #[arg(long, default_value_t = 6)]
    sampled_layers: usize,
    /// Units of each of those layers, evenly spread.
    #[arg(long, default_value_t = 24)]
    sampled_units: usize,
    /// Seed of the windows that are drawn, and of policies that draw.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How often each policy is measured, each time with the next seed and so other calibration windows.
    #[arg(long, default_value_t = 3, value_name = "N")]
    seeds: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What was found at one budget.
#[derive(Serialize)]
struct Budget {
    /// The share that goes.
    removed: f64,
    /// The policies, the best first.
    policies: Vec<Row>,
}

/// What was found of one policy.
#[derive(Serialize)]
struct Row {
    policy: String,
    /// The mean negative log-likelihood in nats after the cut, one for each seed.
    losses: Vec<f64>,
    /// The perplexity's growth by the cut, 0.1 being a tenth, from the mean loss.
    perplexity_growth: f64,
    /// Spearman's correlation of scores and losses without single units.
    agreement: Option<f64>,
}

/// The model on the text that losses are measured on.
struct Bench<'a> {
    args: &'a Args,
    checkpoint: Arc<Checkpoint>,
    model: Arc<Model>,
    ablation: ModelAblation,
    whole: f64,
}

/// Runs `bench policies`.
pub(crate) fn run(args: &Args) -> Result<()> {
    for remove in &args.remove {
        ensure!(*remove > 0.0 && *remove < 1.0, "--remove is {remove}, expected a share in (0, 1)");
    }
    let (checkpoint, model) = args.model.load()?;
    let checkpoint = Arc::new(checkpoint);
    for entry in &args.protect {
        ensure!(
            entry.unit == args.unit,
            "--protect names {}, expected {}, the kind that goes",
            entry.unit,
            args.unit
        );
        entry.check(checkpoint.spec()).context("--protect")?;
    }
    let tokenizer = checkpoint.tokenizer()?;
    let draw = |files: &[PathBuf], windows, seed| {
        let request = CalibrationRequest { windows, window_tokens: args.window_tokens, seed };
        Calibration::draw(files, &tokenizer, checkpoint.spec(), &request)
    };
    let text = draw(std::slice::from_ref(&args.text), args.text_windows, args.seed).context("--text")?;
    let ablation = ModelAblation::new(Arc::clone(&model), text.windows);
    ensure!(
        ablation.takes_out(args.unit),
        "--unit is {}, expected a unit that this model can be run without on this device",
        args.unit
    );
    let whole = loss(&ablation, &[])?;
    let bench = Bench { args, checkpoint: Arc::clone(&checkpoint), model, ablation, whole };
    let singles = bench.single_units()?;
    let mut budgets: Vec<Budget> =
        args.remove.iter().map(|&removed| Budget { removed, policies: Vec::new() }).collect();
    for name in &args.policies {
        let policy = component_file::scoring_policy(name)?;
        let mut agreements = Vec::new();
        let mut losses = vec![Vec::new(); budgets.len()];
        for seed in args.seed..args.seed.saturating_add(args.seeds.max(1)) {
            let calibration = draw(&args.calibration, args.windows, seed)?;
            let scores = bench.scores(&policy, &calibration)?;
            agreements.extend(agreement(&scores, args.unit, &singles));
            for (budget, losses) in budgets.iter().zip(&mut losses) {
                let gone =
                    lowest(&scores, &bench.model.spec().layers, args.unit, budget.removed, &args.protect);
                losses.push(loss(&bench.ablation, &gone)?);
            }
        }
        let agreement = mean(&agreements);
        for (budget, losses) in budgets.iter_mut().zip(losses) {
            let perplexity_growth = (mean(&losses).unwrap_or(f64::NAN) - whole).exp_m1();
            let policy = policy.identity().to_string();
            budget.policies.push(Row { policy, losses, perplexity_growth, agreement });
        }
    }
    for budget in &mut budgets {
        budget.policies.sort_by(|a, b| a.perplexity_growth.total_cmp(&b.perplexity_growth));
    }
    table::print(args, bench.whole, &budgets)
}

impl Bench<'_> {
    fn scores(&self, policy: &ScoringPolicy, calibration: &Calibration) -> Result<Scores> {
        let mut progress = |_: Phase, _: u64, _: u64| true;
        let units = [self.args.unit];
        Ok(score_units(&self.checkpoint, &self.model, policy, &units, calibration, &mut progress)?)
    }

    /// What the model loses without single units, in groups whose scores may be compared.
    fn single_units(&self) -> Result<Vec<Vec<(AblatedUnit, f64)>>> {
        let (spec, unit) = (self.model.spec(), self.args.unit);
        if unit == Unit::Layer {
            let layers = (0..spec.layers.len()).map(|layer| AblatedUnit { layer, unit, index: 0 });
            return Ok(vec![self.losses(layers)?]);
        }
        spread(spec.layers.len(), self.args.sampled_layers)
            .map(|layer| {
                let count = spec.layers.get(layer).map_or(0, |layer| unit_count(unit, layer));
                let indices = spread(count, self.args.sampled_units);
                self.losses(indices.map(|index| AblatedUnit { layer, unit, index }))
            })
            .collect()
    }

    fn losses(&self, units: impl Iterator<Item = AblatedUnit>) -> Result<Vec<(AblatedUnit, f64)>> {
        units.map(|unit| Ok((unit, loss(&self.ablation, &[unit])? - self.whole))).collect()
    }
}

/// The mean over groups of the correlation of scores and losses.
fn agreement(scores: &Scores, unit: Unit, groups: &[Vec<(AblatedUnit, f64)>]) -> Option<f64> {
    let scores = scores.get(unit)?;
    let score = |of: &AblatedUnit| scores.get(of.layer).and_then(|layer| layer.get(of.index)).copied();
    let of_group = |group: &Vec<(AblatedUnit, f64)>| {
        let scored: Vec<f64> = group.iter().filter_map(|(unit, _)| score(unit)).collect();
        let losses: Vec<f64> = group.iter().map(|(_, loss)| *loss).collect();
        spearman(&scored, &losses)
    };
    mean(&groups.iter().filter_map(of_group).collect::<Vec<f64>>())
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn loss(ablation: &ModelAblation, without: &[AblatedUnit]) -> Result<f64> {
    ablation.loss(without).map_err(|error| anyhow::anyhow!("{error}"))
}

/// So many of `0..count`, evenly spread.
fn spread(count: usize, wanted: usize) -> impl Iterator<Item = usize> {
    let wanted = wanted.min(count);
    (0..wanted).map(move |index| index * count / wanted.max(1))
}
