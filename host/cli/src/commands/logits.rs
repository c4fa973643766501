//! `espalier logits`: the logits of given tokens, for comparison with other programs.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use espalier_kernels::Precision;
use serde_json::json;

use crate::device::{DeviceArgs, ModelArgs, PrecisionArg};
use crate::device_choice::DeviceChoice;

/// Options of `logits`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// HF directory or GGUF file.
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// JSON array of token ids, one sequence.
    #[arg(long, value_name = "FILE.json")]
    tokens: PathBuf,
    /// Receives the tensor `logits` [tokens, vocabulary] in f32.
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
    /// Where models run: auto, cpu, cuda or cuda:N; auto takes the first CUDA device if there is one.
    #[arg(long, value_name = "DEVICE", default_value_t)]
    device: DeviceChoice,
    /// Threads of the kernels; 0 takes every core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Arithmetic of the matrix products.
    #[arg(long, value_enum, default_value_t = PrecisionArg::Exact)]
    precision: PrecisionArg,
}

/// Runs `logits`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let text = fs::read_to_string(&args.tokens)
        .with_context(|| format!("--tokens {} cannot be read", args.tokens.display()))?;
    let tokens: Vec<u32> = serde_json::from_str(&text)
        .with_context(|| format!("--tokens {} is not a JSON array of token ids", args.tokens.display()))?;
    ensure!(!tokens.is_empty(), "--tokens {} holds 0 token ids, expected at least 1", args.tokens.display());
    let device = DeviceArgs { device: args.device, threads: args.threads, precision: args.precision };
    let (_, model) = ModelArgs { model: args.model.clone(), device }.load()?;
    let precision: Precision = args.precision.into();

    let mut file = BufWriter::new(
        File::create(&args.out).with_context(|| format!("--out {} cannot be created", args.out.display()))?,
    );
    write_header(&mut file, tokens.len(), model.spec().vocab_size)?;
    let mut written = Ok(());
    let mut write_rows = |_: usize, rows: &[f32]| {
        for value in rows {
            if written.is_ok() {
                written = file.write_all(&value.to_le_bytes());
            }
        }
    };
    model.score(&tokens, precision, None, Some(&mut write_rows))?;
    written
        .and_then(|()| file.flush())
        .with_context(|| format!("--out {} cannot be written", args.out.display()))
}

/// A safetensors header for one tensor: its length as u64, then JSON padded with spaces to eight bytes.
fn write_header(out: &mut impl Write, tokens: usize, vocab: usize) -> Result<()> {
    let bytes = tokens as u64 * vocab as u64 * 4;
    let header = json!({"logits": {"dtype": "F32", "shape": [tokens, vocab], "data_offsets": [0, bytes]}});
    let mut header = header.to_string();
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    Ok(())
}
