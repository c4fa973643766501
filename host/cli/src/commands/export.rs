//! `espalier export`: the same model in another file format.

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::{Context, Result};
use espalier_kernels::WeightFormat;
use espalier_model::{Checkpoint, Conversion};

use crate::copy::{self, Container};

/// Options of `export`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// HF directory, OpenAI's `original` directory or GGUF file.
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// File format of the copy.
    #[arg(long, value_enum)]
    format: Container,
    /// The copy; must not exist yet.
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Number format of the copy: f32, f16, bf16, or mxfp4 for the experts of gpt-oss, and q8_0, q4_0, q4_1 for gguf.
    /// Without it the model keeps its own, except what HF has no place for, which becomes bf16.
    #[arg(long)]
    dtype: Option<String>,
}

/// Runs `export`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let format = args.dtype.as_deref().map(|name| {
        WeightFormat::parse(name)
            .with_context(|| format!("--dtype is {name}, expected f32, f16, bf16, mxfp4, q8_0, q4_0 or q4_1"))
    });
    let conversion = Conversion { container: args.format.into(), format: format.transpose()? };
    copy::write(&Checkpoint::open(&args.model)?, &args.out, conversion)?;
    writeln!(stdout(), "written to {}", args.out.display())?;
    Ok(())
}
