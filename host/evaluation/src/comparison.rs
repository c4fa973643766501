//! A model beside its baseline, token by token: what metric components see of both.

use std::sync::Arc;

use espalier_components::{Baseline, InputError, TokenComparison};
use espalier_model::Model;

use crate::error::EvaluationError;
use crate::logits::{WindowLogits, log_probability, log_sum_exp};
use crate::work::Work;

/// What the baseline is called in errors.
const BASELINE: &str = "the baseline";

/// Compares the distributions that two models of one vocabulary give to the tokens of a window, by the exact path of both.
pub struct ModelComparison {
    name: String,
    model: Arc<Model>,
    baseline: Arc<Model>,
    work: Arc<Work>,
}

impl ModelComparison {
    /// Of `model`, which is called `name` in errors, with `baseline`, as part of `work`.
    #[must_use]
    pub const fn new(name: String, model: Arc<Model>, baseline: Arc<Model>, work: Arc<Work>) -> Self {
        Self { name, model, baseline, work }
    }

    fn measure(&self, window: &[u32], score_from: usize) -> Result<Vec<TokenComparison>, EvaluationError> {
        let (found, expected) = (self.model.spec().vocab_size, self.baseline.spec().vocab_size);
        if found != expected {
            return Err(EvaluationError::Vocabulary { name: self.name.clone(), found, expected });
        }
        let limit = self.baseline.spec().max_positions;
        if window.len() > limit {
            return Err(EvaluationError::ContextTooShort {
                name: BASELINE.to_owned(),
                found: limit,
                expected: window.len(),
            });
        }
        let targets = window.get(score_from..).unwrap_or_default();
        let mut compared = Vec::with_capacity(targets.len());
        let mut own = WindowLogits::predicting(&self.model, window, score_from)?;
        let mut base = WindowLogits::predicting(&self.baseline, window, score_from)?;
        loop {
            self.work.check()?;
            let (Some(own), Some(base)) = (own.next_rows()?, base.next_rows()?) else { break };
            let behind = targets.get(compared.len()..).unwrap_or_default();
            for ((own, base), &target) in own.chunks_exact(found).zip(base.chunks_exact(found)).zip(behind) {
                compared.push(compare(base, own, target).ok_or_else(|| EvaluationError::NotFinite {
                    name: format!("{} or {BASELINE}", self.name),
                    position: score_from + compared.len(),
                })?);
            }
        }
        self.work.add(compared.len());
        Ok(compared)
    }
}

impl Baseline for ModelComparison {
    fn compare(&self, window: &[u32], score_from: usize) -> Result<Vec<TokenComparison>, InputError> {
        Ok(self.measure(window, score_from)?)
    }
}

/// What two rows of logits say of `target`; none when that is not a finite number.
fn compare(base: &[f32], own: &[f32], target: u32) -> Option<TokenComparison> {
    let divergence = kullback_leibler(base, own);
    let comparison = TokenComparison {
        divergence,
        same_top: largest(base) == largest(own),
        baseline_log_probability: log_probability(base, target)? as f32,
        log_probability: log_probability(own, target)? as f32,
    };
    divergence.is_finite().then_some(comparison)
}

/// Σ p (ln p − ln q) with p and q the softmax of the two rows.
fn kullback_leibler(p: &[f32], q: &[f32]) -> f64 {
    let (p_total, q_total) = (log_sum_exp(p), log_sum_exp(q));
    p.iter()
        .zip(q)
        .map(|(&p, &q)| {
            let log_p = f64::from(p) - p_total;
            log_p.exp() * (log_p - (f64::from(q) - q_total))
        })
        .sum()
}

/// Index of the largest value, the first of equals.
fn largest(row: &[f32]) -> Option<usize> {
    let mut best: Option<(usize, f32)> = None;
    for (index, &value) in row.iter().enumerate() {
        if best.is_none_or(|(_, largest)| value > largest) {
            best = Some((index, value));
        }
    }
    best.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_divergence_of_equal_rows_is_zero_and_ignores_a_shift() {
        let row = [0.5, -1.0, 2.0];
        let shifted = row.map(|value| value + 3.0);
        assert!(kullback_leibler(&row, &shifted).abs() < 1e-6);
    }

    #[test]
    fn the_divergence_is_the_textbook_sum() {
        let (p, q) = ([0.25_f64, 0.75], [0.5_f64, 0.5]);
        let expected: f64 = p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum();
        let logits = |row: [f64; 2]| row.map(|p| p.ln() as f32);
        assert!((kullback_leibler(&logits(p), &logits(q)) - expected).abs() < 1e-6);
    }

    #[test]
    fn the_first_of_equal_largest_values_counts() {
        assert_eq!(largest(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(largest(&[]), None);
    }
}
