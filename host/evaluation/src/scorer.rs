//! A model as a scorer of windows: what metric components see of it.

use std::ops::Range;
use std::sync::Arc;

use espalier_components::{InputError, TextScorer};
use espalier_kernels::Tensor;
use espalier_model::Model;

use crate::error::EvaluationError;
use crate::hidden_states::hidden_states;
use crate::logits::{WindowLogits, log_probability};
use crate::text::EvaluationText;
use crate::work::Work;

/// The longest window that is scored, where the model's context is longer: the cache of a window is allocated at once.
const MAX_WINDOW: usize = 8192;

/// Scores windows of a text by the exact path: float32 activations, keys and values, logits in f32, log-softmax in f64.
pub struct ModelScorer {
    name: String,
    model: Arc<Model>,
    text: Arc<EvaluationText>,
    work: Arc<Work>,
}

impl ModelScorer {
    /// A scorer of `text` by `model`, which is called `name` in errors, as part of `work`.
    #[must_use]
    pub const fn new(name: String, model: Arc<Model>, text: Arc<EvaluationText>, work: Arc<Work>) -> Self {
        Self { name, model, text, work }
    }

    fn score(&self, window: &[u32], score_from: usize) -> Result<Vec<f32>, EvaluationError> {
        self.work.check()?;
        let targets = window.get(score_from..).unwrap_or_default();
        let mut values = Vec::with_capacity(targets.len());
        let mut logits = WindowLogits::predicting(&self.model, window, score_from)?;
        while let Some(rows) = logits.next_rows()? {
            let rows = rows.chunks_exact(self.model.spec().vocab_size);
            let behind = targets.get(values.len()..).unwrap_or_default();
            for (row, &target) in rows.zip(behind) {
                let position = score_from + values.len();
                let value = log_probability(row, target)
                    .ok_or_else(|| EvaluationError::NotFinite { name: self.name.clone(), position })?;
                values.push(value as f32);
            }
        }
        self.work.add(values.len());
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

    fn log_probabilities(&self, window: &[u32], score_from: usize) -> Result<Vec<f32>, InputError> {
        Ok(self.score(window, score_from)?)
    }

    fn hidden_states(&self, window: &[u32], layers: usize) -> Result<Tensor, InputError> {
        self.work.check()?;
        let states = hidden_states(&self.model, window, layers)?;
        self.work.add(window.len());
        Ok(states)
    }
}
