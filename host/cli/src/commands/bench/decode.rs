//! Decode: every step adds one token to each of a few sequences.

use anyhow::Result;
use espalier_kernels::SequenceSpan;
use espalier_model::{ForwardBatch, LogitRows};

use super::measure::Repetition;
use crate::device::ModelArgs;

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
    repetition: Repetition,
}

/// Runs `bench decode`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let (_, model) = args.model.load()?;
    let blocks_each = args.tokens.div_ceil(BLOCK_TOKENS);
    let tables: Vec<Vec<u32>> = (0..args.sequences)
        .map(|sequence| (0..blocks_each).map(|block| (sequence * blocks_each + block) as u32).collect())
        .collect();
    let mut cache = model.new_cache(args.sequences * blocks_each, BLOCK_TOKENS)?;
    let vocab = model.spec().vocab_size as u32;
    let precision = args.model.precision();
    let total = args.tokens * args.sequences;
    args.repetition.measure("decode", total, model.cpu().threads(), || {
        for position in 0..args.tokens {
            let tokens: Vec<u32> =
                (0..args.sequences as u32).map(|s| (position as u32 * 31 + s * 7) % vocab).collect();
            let spans: Vec<SequenceSpan<'_>> = tables
                .iter()
                .map(|blocks| SequenceSpan { blocks, first_position: position, queries: 1 })
                .collect();
            let batch = ForwardBatch { tokens: &tokens, spans: &spans, logits_for: LogitRows::All };
            model.forward(&batch, &mut cache, precision, None)?;
        }
        Ok(())
    })
}
