//! `espalier export`: the same model in another file format.

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::ValueEnum;
use espalier_kernels::WeightFormat;
use espalier_model::{Checkpoint, export_gguf};
use espalier_pruning::{Phase, Plan, StorageType, surgery};

use crate::progress_bar::Bar;

/// Options of `export`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// HF directory or GGUF file.
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// File format of the copy.
    #[arg(long, value_enum)]
    format: Format,
    /// The copy; must not exist yet.
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Number format of the copy: bf16, f16 or f32 for hf (bf16 unless given), or one of GGUF's (the model's own unless
    /// given).
    #[arg(long)]
    dtype: Option<String>,
}

/// `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A directory with config.json and safetensors, as transformers loads it.
    Hf,
    /// One GGUF file, as llama.cpp loads it.
    Gguf,
}

/// Runs `export`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let checkpoint = Checkpoint::open(&args.model)?;
    match args.format {
        Format::Hf => write_hugging_face(args, &checkpoint)?,
        Format::Gguf => {
            let format = args.dtype.as_deref().map(|name| {
                WeightFormat::parse(name)
                    .with_context(|| format!("--dtype {name} is not a weight format of GGUF"))
            });
            export_gguf(&checkpoint, &args.out, format.transpose()?)?;
        }
    }
    writeln!(stdout(), "written to {}", args.out.display())?;
    Ok(())
}

/// Surgery with a plan that removes nothing, so that the copy and a pruned model are written in the same way.
fn write_hugging_face(args: &Args, checkpoint: &Checkpoint) -> Result<()> {
    let storage = match args.dtype.as_deref() {
        Some(name) => StorageType::parse(name).with_context(|| {
            format!("--dtype {name} is not a number format of HF directories; expected bf16, f16 or f32")
        })?,
        None => StorageType::default(),
    };
    let mut bar = Bar::new();
    let mut progress = |phase: Phase, done: u64, total: u64| {
        bar.show(phase.name(), done, Some(total));
        true
    };
    surgery(&Plan::unchanged(checkpoint.spec(), storage), checkpoint, &args.out, &mut progress)?;
    bar.clear();
    Ok(())
}
