//! `espalier inspect`: what is in a checkpoint, without loading it.

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::Result;
use espalier_model::{Checkpoint, Inspection};

/// Options of `inspect`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// HF directory or GGUF file.
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Runs `inspect`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let inspection = Inspection::new(&Checkpoint::open(&args.model)?);
    let mut out = stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &inspection)?;
        writeln!(out)?;
    } else {
        write!(out, "{inspection}")?;
    }
    Ok(())
}
