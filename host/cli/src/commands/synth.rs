//! `espalier synth`: random weights at a given shape.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use espalier_model::{SynthShape, synthesize};

/// Options of `synth`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// JSON file with the shape, in the keys of an HF config.json.
    #[arg(long, value_name = "FILE.json")]
    shape: PathBuf,
    /// Directory to write; must not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Seed of the weights.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Runs `synth`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let text = fs::read_to_string(&args.shape)
        .with_context(|| format!("--shape {} cannot be read", args.shape.display()))?;
    let shape: SynthShape = serde_json::from_str(&text)
        .with_context(|| format!("--shape {} is not a shape", args.shape.display()))?;
    synthesize(&shape, &args.out, args.seed)?;
    Ok(())
}
