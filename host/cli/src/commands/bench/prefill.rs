//! Prefill: a whole prompt, as the first step of a request.

use anyhow::Result;
use espalier_model::{ForwardBatch, LogitRows, SequenceSize};

use super::measure::Repetition;
use crate::device::{CacheArgs, ModelArgs};

const BLOCK_TOKENS: usize = 32;

/// Options of `bench prefill`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Tokens of the prompt.
    #[arg(long, default_value_t = 512)]
    tokens: usize,
    #[command(flatten)]
    kv_cache: CacheArgs,
    #[command(flatten)]
    repetition: Repetition,
}

/// Runs `bench prefill`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let (_, model) = args.model.load()?;
    let size = SequenceSize { tokens: args.tokens, step_tokens: args.tokens, block_tokens: BLOCK_TOKENS };
    let (mut cache, blocks) = model.cache_for_one(size, args.kv_cache.format())?;
    let vocab = model.spec().vocab_size as u32;
    let tokens: Vec<u32> = (0..args.tokens as u32).map(|position| (position * 31) % vocab).collect();
    let spans = [blocks.span(0, tokens.len())?];
    let batch = ForwardBatch { tokens: &tokens, spans: &spans, decoding: 0, logits_for: LogitRows::Last };
    args.repetition.measure("prefill", args.tokens, model.cpu().threads(), || {
        model.forward(&batch, &mut cache, args.model.precision(), None)?;
        Ok(())
    })
}
