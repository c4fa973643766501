//! Every routine command of the project: `cargo xtask setup|guests|demo|test|train-tiny|bench`.
//!
//! A command that needs something (the model, the texts, the guests, the Python environment) prepares it first, so
//! any of them works from a clean clone. Nothing here is part of the shipped program.

mod bench;
mod build;
mod child;
mod clang;
mod console;
mod debian_packages;
mod demo;
mod download;
mod guests;
mod host;
mod model;
mod nvrtc;
mod prerequisites;
mod process;
mod progress;
mod promtool;
mod python;
mod sdks;
mod setup;
mod test;
mod texts;
mod tiny_model;
mod wasm_toolchain;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::bench::Bench;
use crate::workspace::Workspace;

/// The project's routine commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check the prerequisites, fetch the demo's model and texts, build the guests.
    Setup,
    /// Build the guest components alone.
    Guests,
    /// Serve SmolLM2, prune it with a policy that is deployed meanwhile, measure and serve the results.
    Demo {
        /// End after the table, instead of leaving the host running.
        #[arg(long)]
        once: bool,
    },
    /// Run every test, end-to-end tests included.
    Test,
    /// Train the model that `espalier serve` serves where none is named.
    TrainTiny,
    /// Measure.
    Bench {
        #[command(subcommand)]
        bench: Bench,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::failure(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    child::stop_children_on_interrupt()?;
    let workspace = Workspace::locate()?;
    match arguments.command {
        Task::Setup => setup::run(&workspace),
        Task::Guests => guests::build(&workspace).map(drop),
        Task::Demo { once } => demo::run(&workspace, once),
        Task::Test => test::run(&workspace),
        Task::TrainTiny => tiny_model::run(&workspace),
        Task::Bench { bench } => bench::run(&workspace, &bench),
    }
}
