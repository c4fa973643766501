//! `espalier synth`: random weights at a given shape.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use espalier_model::{SynthShape, synthesize};

/// Options of `synth`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// `gpt-oss-20b`, or a JSON file with a shape in the keys of an HF config.json.
    #[arg(long, value_name = "gpt-oss-20b|FILE.json")]
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
    synthesize(&shape(&args.shape)?, &args.out, args.seed)?;
    Ok(())
}

/// A file's shape; a word that names no file is the name of a model.
fn shape(file_or_name: &Path) -> Result<SynthShape> {
    let name = file_or_name.to_str().filter(|name| !name.ends_with(".json") && !file_or_name.exists());
    if let Some(name) = name {
        return Ok(SynthShape::named(name)?);
    }
    let text = fs::read_to_string(file_or_name)
        .with_context(|| format!("--shape {} cannot be read", file_or_name.display()))?;
    serde_json::from_str(&text).with_context(|| format!("--shape {} is not a shape", file_or_name.display()))
}
