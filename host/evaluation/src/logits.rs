//! The logits of a window of tokens by the exact path, in pieces, so that memory is bounded whatever the window.

use espalier_kernels::{CacheFormat, Precision};
use espalier_model::{
    ForwardBatch, KeyValueCache, LogitRows, Model, ModelError, SequenceBlocks, SequenceSize,
};

/// Positions whose logits are computed at once.
const CHUNK_TOKENS: usize = 128;

/// Positions that only fill the cache, computed at once.
const PREFIX_TOKENS: usize = 512;

/// Tokens of a block of the temporary cache.
const BLOCK_TOKENS: usize = 64;

/// A forward pass over a window from scratch: float32 activations, keys and values.
pub(crate) struct WindowLogits<'a> {
    model: &'a Model,
    window: &'a [u32],
    cache: KeyValueCache,
    blocks: SequenceBlocks,
    position: usize,
}

impl<'a> WindowLogits<'a> {
    /// Begins at the logits that predict the token at `score_from`, which are those of the token before it; those of the
    /// tokens before that only fill the cache. The last token predicts nothing.
    pub(crate) fn predicting(
        model: &'a Model,
        window: &'a [u32],
        score_from: usize,
    ) -> Result<Self, ModelError> {
        let window = window.get(..window.len().saturating_sub(1)).unwrap_or_default();
        let prefix = score_from.saturating_sub(1);
        let size = SequenceSize {
            tokens: window.len(),
            step_tokens: PREFIX_TOKENS.max(CHUNK_TOKENS),
            block_tokens: BLOCK_TOKENS,
        };
        let (cache, blocks) = model.cache_for_one(size, CacheFormat::F32)?;
        let mut logits = Self { model, window, cache, blocks, position: 0 };
        while logits.position < prefix {
            logits.forward(PREFIX_TOKENS.min(prefix - logits.position), LogitRows::None)?;
        }
        Ok(logits)
    }

    /// The next logits, one row of the vocabulary's length for each position; none behind the last position.
    pub(crate) fn next_rows(&mut self) -> Result<Option<Vec<f32>>, ModelError> {
        let count = CHUNK_TOKENS.min(self.window.len().saturating_sub(self.position));
        if count == 0 {
            return Ok(None);
        }
        self.forward(count, LogitRows::All).map(Some)
    }

    fn forward(&mut self, count: usize, logits_for: LogitRows<'_>) -> Result<Vec<f32>, ModelError> {
        let start = self.position;
        self.position += count;
        let tokens = self.window.get(start..self.position).unwrap_or_default();
        let spans = [self.blocks.span(start, tokens.len())?];
        let batch = ForwardBatch { tokens, spans: &spans, decoding: 0, logits_for };
        self.model.forward(&batch, &mut self.cache, Precision::Exact, None)
    }
}

/// The natural logarithm of the softmax of `logits` at `target`; none when that is not a finite number.
#[must_use]
pub fn log_probability(logits: &[f32], target: u32) -> Option<f64> {
    let value = f64::from(*logits.get(target as usize)?) - log_sum_exp(logits);
    value.is_finite().then_some(value)
}

/// `ln Σ exp(x)`, shifted by the maximum so that it cannot overflow.
pub(crate) fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
    f64::from(largest) + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_are_those_of_a_softmax() {
        let logits = [1.0, 2.0, 3.0];
        let total: f64 = [1.0_f64, 2.0, 3.0].iter().map(|x| x.exp()).sum();
        let expected = (2.0_f64.exp() / total).ln();
        assert!((log_probability(&logits, 1).unwrap() - expected).abs() < 1e-7);
    }

    #[test]
    fn large_logits_do_not_overflow() {
        assert!((log_probability(&[1000.0, 1000.0], 0).unwrap() + 2.0_f64.ln()).abs() < 1e-9);
    }

    #[test]
    fn a_logit_that_is_no_number_is_no_probability() {
        assert_eq!(log_probability(&[f32::NAN, 1.0], 1), None);
        assert_eq!(log_probability(&[f32::INFINITY, 1.0], 1), None);
        assert_eq!(log_probability(&[1.0], 3), None);
    }
}
