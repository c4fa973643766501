//! What a model costs on this machine: bytes on disk and in memory, seconds to load, speed of prefill and decode.
//!
//! One process, one sequence. The first prompt is timed apart: it brings the weights in from the file and repacks those
//! that it touches. Tokens are spread over the vocabulary, so that a mixture's experts are all called upon.

use std::io::{Write, stdout};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use espalier_evaluation::{Residency, bytes_on_disk, residency};
use espalier_kernels::CacheFormat;
use espalier_model::{ForwardBatch, KeyValueCache, LogitRows, Model, SequenceBlocks, SequenceSize};
use serde::Serialize;

use super::measure::median;
use crate::device::ModelArgs;

const BLOCK_TOKENS: usize = 32;

/// Options of `bench footprint`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Tokens of the prompt.
    #[arg(long, default_value_t = 256)]
    prompt_tokens: usize,
    /// Tokens generated after it.
    #[arg(long, default_value_t = 32)]
    decode_tokens: usize,
    /// Runs after the first; their median counts.
    #[arg(long, default_value_t = 3)]
    repetitions: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Serialize)]
struct Footprint {
    parameters: u64,
    active_parameters: u64,
    disk_bytes: u64,
    load_seconds: f64,
    first_prompt_seconds: f64,
    prompt_tokens: usize,
    prefill_tokens_per_second: f64,
    decode_tokens: usize,
    decode_milliseconds_per_token: f64,
    /// After all runs.
    resident: Option<Residency>,
    threads: usize,
}

/// Runs `bench footprint`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let disk_bytes = bytes_on_disk(&args.model.model)?;
    let begin = Instant::now();
    let (_, model) = args.model.load()?;
    let load_seconds = begin.elapsed().as_secs_f64();
    let tokens = args.prompt_tokens + args.decode_tokens;
    let size = SequenceSize { tokens, step_tokens: args.prompt_tokens.max(1), block_tokens: BLOCK_TOKENS };
    let (cache, blocks) = model.cache_for_one(size, CacheFormat::default())?;
    let mut run = Run { model: &model, args, cache, blocks };
    let first_prompt_seconds = run.prefill()?.as_secs_f64();
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    for _ in 0..args.repetitions.max(1) {
        prefill.push(run.prefill()?);
        decode.push(run.decode()?);
    }
    let (prefill, decode) = (median(&prefill).as_secs_f64(), median(&decode).as_secs_f64());
    let footprint = Footprint {
        parameters: model.spec().parameters(),
        active_parameters: model.spec().active_parameters(),
        disk_bytes,
        load_seconds,
        first_prompt_seconds,
        prompt_tokens: args.prompt_tokens,
        prefill_tokens_per_second: args.prompt_tokens as f64 / prefill,
        decode_tokens: args.decode_tokens,
        decode_milliseconds_per_token: decode * 1e3 / args.decode_tokens.max(1) as f64,
        resident: residency(),
        threads: model.cpu().threads(),
    };
    print(&footprint, args.json).context("the result cannot be printed")
}

struct Run<'a> {
    model: &'a Model,
    args: &'a Args,
    cache: KeyValueCache,
    blocks: SequenceBlocks,
}

impl Run<'_> {
    /// The time of the prompt in one go.
    fn prefill(&mut self) -> Result<Duration> {
        let begin = Instant::now();
        self.forward(0, self.args.prompt_tokens)?;
        Ok(begin.elapsed())
    }

    /// The time of all tokens after the prompt, one by one.
    fn decode(&mut self) -> Result<Duration> {
        let begin = Instant::now();
        for step in 0..self.args.decode_tokens {
            self.forward(self.args.prompt_tokens + step, 1)?;
        }
        Ok(begin.elapsed())
    }

    fn forward(&mut self, first: usize, count: usize) -> Result<()> {
        // Odd multiples of a large prime visit a power of two's residues, and most of any other number's, in no order.
        let vocabulary = self.model.spec().vocab_size;
        let tokens: Vec<u32> =
            (first..first + count).map(|position| (position * 1_000_003 % vocabulary) as u32).collect();
        let spans = [self.blocks.span(first, count)?];
        let (decoding, logits_for) = (usize::from(count == 1), LogitRows::Last);
        let batch = ForwardBatch { tokens: &tokens, spans: &spans, decoding, logits_for };
        self.model.forward(&batch, &mut self.cache, self.args.model.precision(), None)?;
        Ok(())
    }
}

fn print(footprint: &Footprint, json: bool) -> Result<()> {
    let mut out = stdout().lock();
    if json {
        serde_json::to_writer(&mut out, footprint)?;
        return Ok(writeln!(out)?);
    }
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    writeln!(out, "parameters    {} ({} active)", footprint.parameters, footprint.active_parameters)?;
    writeln!(out, "on disk       {:.2} GB", gigabytes(footprint.disk_bytes))?;
    if let Some(Residency { anonymous, file, peak }) = footprint.resident {
        writeln!(
            out,
            "resident      {:.2} GB own, {:.2} GB of files; at most {:.2} GB",
            gigabytes(anonymous),
            gigabytes(file),
            gigabytes(peak)
        )?;
    }
    writeln!(
        out,
        "load          {:.3} s, first prompt {:.2} s",
        footprint.load_seconds, footprint.first_prompt_seconds
    )?;
    writeln!(
        out,
        "prefill       {:.1} tokens/s ({} tokens)",
        footprint.prefill_tokens_per_second, footprint.prompt_tokens
    )?;
    writeln!(
        out,
        "decode        {:.2} ms per token ({} threads)",
        footprint.decode_milliseconds_per_token, footprint.threads
    )?;
    Ok(())
}
