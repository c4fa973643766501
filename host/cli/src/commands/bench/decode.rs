//! Decode: every step adds one token to each of a few sequences.

use anyhow::Result;
use espalier_model::{ForwardBatch, LogitRows, SequenceSize};

use super::measure::Repetition;
use crate::device::{CacheArgs, ModelArgs};

const BLOCK_TOKENS: usize = 32;

/// Options of `bench decode`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Tokens per sequence.
    #[arg(long, default_value_t = 128)]
    tokens: usize,
    /// Sequences decoded together.
    #[arg(long, default_value_t = 1)]
    sequences: usize,
    #[command(flatten)]
    kv_cache: CacheArgs,
    #[command(flatten)]
    repetition: Repetition,
}

/// Runs `bench decode`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let (_, model) = args.model.load()?;
    let size = SequenceSize { tokens: args.tokens, step_tokens: 1, block_tokens: BLOCK_TOKENS };
    let (mut cache, tables) = model.cache_for(args.sequences, size, args.kv_cache.format())?;
    let vocab = model.spec().vocab_size as u32;
    let precision = args.model.precision();
    let total = args.tokens * args.sequences;
    args.repetition.measure("decode", total, model.cpu().threads(), || {
        for position in 0..args.tokens {
            let tokens: Vec<u32> =
                (0..args.sequences as u32).map(|s| (position as u32 * 31 + s * 7) % vocab).collect();
            let spans = tables.iter().map(|table| table.span(position, 1)).collect::<Result<Vec<_>, _>>()?;
            let batch = ForwardBatch {
                tokens: &tokens,
                spans: &spans,
                decoding: tokens.len(),
                logits_for: LogitRows::All,
            };
            model.forward(&batch, &mut cache, precision, None)?;
        }
        Ok(())
    })
}
