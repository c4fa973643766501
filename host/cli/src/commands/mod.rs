//! The commands, one file each.

mod bench;
mod component;
mod evaluate;
mod export;
mod generate;
mod inspect;
mod logits;
mod model;
mod prune;
mod quantize;
mod recipe;
mod recipe_run;
mod serve;
mod synth;
mod train;

use anyhow::Result;
use clap::Subcommand;

/// What `espalier` can be told to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Continue a prompt and print the text as it comes.
    Generate(generate::Args),
    /// Write the logits of given tokens to a safetensors file.
    Logits(logits::Args),
    /// Show a model's architecture, shapes, parameters and bytes.
    Inspect(inspect::Args),
    /// Make a smaller checkpoint with a scoring policy.
    Prune(prune::Args),
    /// Measure quality, speed and memory of models, beside a baseline.
    Evaluate(evaluate::Args),
    /// Write the same model in another file format.
    Export(export::Args),
    /// Write the same model with weights of fewer bits, and report their error.
    Quantize(quantize::Args),
    /// Write a model of a given shape with random weights, for tests and benches.
    Synth(synth::Args),
    /// Train a model, an adapter on one, or a new one, as a configuration file says.
    Train(train::Args),
    /// Run the host: OpenAI API, UI, metrics and admin API.
    Serve(serve::Args),
    /// Manage the components of a running host.
    Component(component::Args),
    /// Manage the models of a running host.
    Model(model::Args),
    /// Go through recipes in a running host: start runs, watch, list and cancel them.
    Recipe(recipe_run::Args),
    /// Measure this machine's speed with a model.
    #[command(subcommand)]
    Bench(bench::Bench),
}

impl Command {
    /// Runs the command to its end.
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Self::Generate(args) => generate::run(args),
            Self::Logits(args) => logits::run(&args),
            Self::Inspect(args) => inspect::run(&args),
            Self::Prune(args) => prune::run(&args),
            Self::Evaluate(args) => evaluate::run(&args),
            Self::Export(args) => export::run(&args),
            Self::Quantize(args) => quantize::run(&args),
            Self::Synth(args) => synth::run(&args),
            Self::Train(args) => train::run(&args),
            Self::Serve(args) => serve::run(args),
            Self::Component(args) => component::run(&args),
            Self::Model(args) => model::run(&args),
            Self::Recipe(args) => recipe_run::run(&args),
            Self::Bench(bench) => bench::run(&bench),
        }
    }
}
