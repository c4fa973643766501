//! `cargo xtask bench`: measurements that take a while, each with a report in `bench/reports/`.

mod gpt_oss_20b;
mod peers;

use anyhow::Result;
use clap::Subcommand;

use crate::workspace::Workspace;

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// This program and llama.cpp in turn: SmolLM2 in three formats, beside a foreign process and over HTTP, and the shape
    /// of GPT-OSS 20B; takes most of an hour and 40 GB of disk. `--parts` picks some.
    Peers {
        /// Options for `bench/peers run`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// What each way of making GPT-OSS 20B smaller costs and gains: 85 %, 15B and 12B by experts, channels, layers and
    /// a mixture with heads. Random weights at the true shape; needs 30 GB of disk and most of an hour.
    #[command(name = "gpt-oss-20b")]
    GptOss20b(gpt_oss_20b::Args),
}

/// Runs one.
pub(crate) fn run(workspace: &Workspace, bench: &Bench) -> Result<()> {
    match bench {
        Bench::Peers { arguments } => peers::run(workspace, arguments),
        Bench::GptOss20b(arguments) => gpt_oss_20b::run(workspace, arguments),
    }
}
