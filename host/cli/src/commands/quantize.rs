//! `espalier quantize`: the same model with weights of fewer bits, and what that did to them.

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;
use espalier_kernels::WeightFormat;
use espalier_model::{Checkpoint, Conversion};
use serde_json::json;

use crate::copy::{self, Container};

/// Options of `quantize`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// HF directory, OpenAI's `original` directory or GGUF file.
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// Number format of the weights.
    #[arg(long, value_enum)]
    format: Format,
    /// The copy; must not exist yet.
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// File format of the copy; without it, gguf if the path ends in .gguf, else hf.
    #[arg(long, value_enum)]
    container: Option<Container>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// 4.25 bits: the experts of gpt-oss, all else as it is; for a model without experts the matrices of its layers, in
    /// GGUF only.
    Mxfp4,
    /// 8.5 bits: all matrices but routers, in GGUF only.
    #[value(name = "q8_0")]
    Q8_0,
    /// 16 bits: all matrices, and in HF all vectors too; takes MXFP4 apart.
    Bf16,
}

impl From<Format> for WeightFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Mxfp4 => Self::Mxfp4,
            Format::Q8_0 => Self::Q8_0,
            Format::Bf16 => Self::Bf16,
        }
    }
}

/// Runs `quantize`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let container = args.container.unwrap_or_else(|| Container::of(&args.out));
    let conversion = Conversion { container: container.into(), format: Some(args.format.into()) };
    let report = copy::write(&Checkpoint::open(&args.model)?, &args.out, conversion)?;
    let mut out = stdout().lock();
    if args.json {
        let document = json!({ "out": args.out.display().to_string(), "report": report });
        writeln!(out, "{document:#}")?;
    } else {
        write!(out, "{report}")?;
        writeln!(out, "written to {}", args.out.display())?;
    }
    Ok(())
}
