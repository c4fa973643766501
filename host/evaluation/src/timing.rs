//! How fast a model is on this machine: milliseconds per token of prefill and of decode.
//!
//! Measured on the serving path (the fast kernels and the key-value format of serving), one sequence, after a warm-up, as the median of several runs: the
//! median is what a request sees, and one run disturbed by another process does not move it.

use std::time::Instant;

use espalier_kernels::{CacheFormat, Precision};
use espalier_model::{ForwardBatch, KeyValueCache, LogitRows, Model, SequenceBlocks, SequenceSize};
use serde::{Deserialize, Serialize};

use crate::error::EvaluationError;

const BLOCK_TOKENS: usize = 64;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimingRequest {
    /// Tokens of the prompt.
    pub prefill_tokens: usize,
    /// Tokens generated one by one after it.
    pub decode_tokens: usize,
    /// Runs after the warm-up.
    pub runs: usize,
}

impl Default for TimingRequest {
    fn default() -> Self {
        Self { prefill_tokens: 512, decode_tokens: 128, runs: 3 }
    }
}

/// Medians over the runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Prefill, in milliseconds per token of the prompt.
    pub prefill_ms_per_token: f64,
    /// Decode, in milliseconds per generated token.
    pub decode_ms_per_token: f64,
    /// What was measured.
    pub request: TimingRequest,
}

/// Measures `model`, which is called `name` in errors.
///
/// # Errors
/// A context too short for the request, or a failed forward pass.
pub fn measure_timing(name: &str, model: &Model, request: &TimingRequest) -> Result<Timing, EvaluationError> {
    let length = request.prefill_tokens + request.decode_tokens;
    let context = model.spec().max_positions;
    if length > context {
        return Err(EvaluationError::ContextTooShort {
            name: name.to_owned(),
            found: context,
            expected: length,
        });
    }
    // Speed does not depend on which tokens they are; a fixed walk through the vocabulary touches different rows.
    let vocabulary = model.spec().vocab_size.max(1);
    let tokens: Vec<u32> =
        (0..length).filter_map(|index| u32::try_from((index * 7919 + 13) % vocabulary).ok()).collect();
    let size = SequenceSize {
        tokens: length,
        step_tokens: request.prefill_tokens.max(1),
        block_tokens: BLOCK_TOKENS,
    };
    let (cache, blocks) = model.cache_for_one(size, CacheFormat::default())?;
    let mut run = Run { model, tokens: &tokens, blocks, cache };

    run.warm_up(request)?;
    let mut prefill = Vec::with_capacity(request.runs);
    let mut decode = Vec::with_capacity(request.runs);
    for _ in 0..request.runs.max(1) {
        let start = Instant::now();
        run.forward(0, request.prefill_tokens)?;
        let prefilled = Instant::now();
        for position in request.prefill_tokens..length {
            run.forward(position, 1)?;
        }
        prefill.push((prefilled - start).as_secs_f64());
        decode.push(prefilled.elapsed().as_secs_f64());
    }
    let per_token = |seconds: Vec<f64>, tokens: usize| median(seconds) * 1e3 / tokens.max(1) as f64;
    Ok(Timing {
        prefill_ms_per_token: per_token(prefill, request.prefill_tokens),
        decode_ms_per_token: per_token(decode, request.decode_tokens),
        request: *request,
    })
}

struct Run<'a> {
    model: &'a Model,
    tokens: &'a [u32],
    blocks: SequenceBlocks,
    cache: KeyValueCache,
}

impl Run<'_> {
    /// Pages the weights in and lets the clock rise: a whole prefill and a few steps.
    fn warm_up(&mut self, request: &TimingRequest) -> Result<(), EvaluationError> {
        self.forward(0, request.prefill_tokens)?;
        for step in 0..request.decode_tokens.min(8) {
            self.forward(request.prefill_tokens + step, 1)?;
        }
        Ok(())
    }

    fn forward(&mut self, first_position: usize, queries: usize) -> Result<(), EvaluationError> {
        let tokens = self.tokens.get(first_position..first_position + queries).unwrap_or_default();
        let spans = [self.blocks.span(first_position, queries)?];
        let (decoding, logits_for) = (usize::from(queries == 1), LogitRows::Last);
        let batch = ForwardBatch { tokens, spans: &spans, decoding, logits_for };
        self.model.forward(&batch, &mut self.cache, Precision::Fast, None)?;
        Ok(())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle).copied().unwrap_or(f64::NAN);
    if values.len() % 2 == 1 {
        return upper;
    }
    let lower = middle.checked_sub(1).and_then(|index| values.get(index)).copied().unwrap_or(f64::NAN);
    (lower + upper) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }
}
