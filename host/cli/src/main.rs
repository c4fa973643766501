//! `espalier`: serve a large language model, make it smaller, prove what that cost.

mod admin;
mod built_in_model;
mod commands;
mod component_file;
mod copy;
mod device;
mod device_choice;
mod oci;
mod process_environment;
mod progress_bar;
mod protected_layers;
#[cfg(test)]
mod reference;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use commands::Command;

/// Serve a large language model, prune it, prove what that cost, and swap the smaller one in live.
#[derive(Parser)]
#[command(name = "espalier", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .init();
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "a command's failure goes to standard error as one sentence")]
fn report(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
