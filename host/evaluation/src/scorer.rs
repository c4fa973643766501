//! A model as a scorer of windows: what metric components see of it.

use std::error::Error;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use espalier_components::TextScorer;
use espalier_kernels::{CacheFormat, Precision};
use espalier_model::{ForwardBatch, LogitRows, Model, SequenceSize};

use crate::error::EvaluationError;
use crate::text::EvaluationText;

/// Positions whose logits are computed at once.
const CHUNK_TOKENS: usize = 128;

/// Positions that only fill the cache, computed at once.
const PREFIX_TOKENS: usize = 512;

/// Tokens of a block of the temporary cache.
const BLOCK_TOKENS: usize = 64;

/// The longest window that is scored, where the model's context is longer: the cache of a window is allocated at once.
const MAX_WINDOW: usize = 8192;

/// Scores windows of a text by the exact path: float32 activations, keys and values, logits in f32, log-softmax in f64.
///
/// A metric runs in the sandbox for as long as it likes; whoever waits for it can watch [`ModelScorer::scored`] and
/// [`ModelScorer::cancel`] it from another thread.
pub struct ModelScorer {
    name: String,
    model: Arc<Model>,
    text: Arc<EvaluationText>,
    scored: AtomicU64,
    cancelled: AtomicBool,
}

impl ModelScorer {
    /// A scorer of `text` by `model`, which is called `name` in errors.
    #[must_use]
    pub fn new(name: String, model: Arc<Model>, text: Arc<EvaluationText>) -> Self {
        Self { name, model, text, scored: AtomicU64::new(0), cancelled: AtomicBool::new(false) }
    }

    /// Log-probabilities computed so far.
    pub fn scored(&self) -> u64 {
        self.scored.load(Ordering::Relaxed)
    }

    /// Lets the next window fail with [`EvaluationError::Cancelled`].
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn score(&self, window: &[u32], score_from: usize) -> Result<Vec<f32>, EvaluationError> {
        if self.is_cancelled() {
            return Err(EvaluationError::Cancelled);
        }
        let mut values = Vec::with_capacity(window.len().saturating_sub(score_from));
        // The logits at position p predict the token at p + 1.
        let wanted = score_from.saturating_sub(1)..window.len().saturating_sub(1);
        for_logits(&self.model, window, wanted, |position, logits| {
            let target = window.get(position + 1).map_or(0, |&token| token as usize);
            let value = log_probability(logits, target)
                .ok_or_else(|| EvaluationError::NotFinite { name: self.name.clone(), position })?;
            values.push(value as f32);
            Ok(())
        })?;
        self.scored.fetch_add(values.len() as u64, Ordering::Relaxed);
        Ok(values)
    }
}

impl TextScorer for ModelScorer {
    fn tokens(&self) -> &[u32] {
        self.text.tokens()
    }

    fn byte_count(&self, tokens: Range<usize>) -> u64 {
        self.text.byte_count(tokens)
    }

    fn beginning_of_sequence(&self) -> Option<u32> {
        let spec = self.model.spec();
        if spec.add_bos { spec.bos } else { None }
    }

    fn max_window(&self) -> usize {
        self.model.spec().max_positions.min(MAX_WINDOW)
    }

    fn log_probabilities(
        &self,
        window: &[u32],
        score_from: usize,
    ) -> Result<Vec<f32>, Box<dyn Error + Send + Sync>> {
        Ok(self.score(window, score_from)?)
    }
}

/// Runs `window` from scratch and shows the logits of the positions in `wanted`, one row each, in order. Positions
/// before them only fill the cache, those behind are not computed.
pub(crate) fn for_logits(
    model: &Model,
    window: &[u32],
    wanted: Range<usize>,
    mut show: impl FnMut(usize, &[f32]) -> Result<(), EvaluationError>,
) -> Result<(), EvaluationError> {
    let window = window.get(..wanted.end).unwrap_or(window);
    let size = SequenceSize {
        tokens: window.len(),
        step_tokens: PREFIX_TOKENS.max(CHUNK_TOKENS),
        block_tokens: BLOCK_TOKENS,
    };
    let (mut cache, blocks) = model.cache_for_one(size, CacheFormat::F32)?;
    let mut forward = |range: Range<usize>, logits_for: LogitRows<'_>| {
        let tokens = window.get(range.clone()).unwrap_or_default();
        let spans = [blocks.span(range.start, tokens.len())?];
        model.forward(&ForwardBatch { tokens, spans: &spans, logits_for }, &mut cache, Precision::Exact, None)
    };
    for start in (0..wanted.start).step_by(PREFIX_TOKENS) {
        forward(start..(start + PREFIX_TOKENS).min(wanted.start), LogitRows::None)?;
    }
    let width = model.spec().vocab_size;
    for start in (wanted.start..window.len()).step_by(CHUNK_TOKENS) {
        let end = (start + CHUNK_TOKENS).min(window.len());
        let logits = forward(start..end, LogitRows::All)?;
        for (row, position) in logits.chunks_exact(width).zip(start..end) {
            show(position, row)?;
        }
    }
    Ok(())
}

/// The natural logarithm of the softmax of `logits` at `target`; none when that is not a finite number.
pub(crate) fn log_probability(logits: &[f32], target: usize) -> Option<f64> {
    let value = f64::from(*logits.get(target)?) - log_sum_exp(logits);
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
