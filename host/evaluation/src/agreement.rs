//! How close a model stays to its baseline, token by token: a finer measure than perplexity, which can stay put while
//! the answers change.
//!
//! As llama.cpp's `--kl-divergence` defines them, over the second half of disjoint windows, so that every position has
//! context: KL(baseline ‖ model) in nats per token, and the share of positions where both have the same most likely
//! token.

use espalier_model::Model;
use serde::{Deserialize, Serialize};

use crate::error::EvaluationError;
use crate::scorer::{for_logits, log_sum_exp};

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreementRequest {
    /// Windows, from the start of the text.
    pub windows: usize,
    /// Tokens in a window.
    pub window_tokens: usize,
}

impl Default for AgreementRequest {
    fn default() -> Self {
        Self { windows: 16, window_tokens: 256 }
    }
}

/// A model against its baseline.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Mean KL(baseline ‖ model), in nats per token.
    pub mean_kl: f64,
    /// Standard error of that mean.
    pub mean_kl_error: f64,
    /// Share of positions with the same most likely token.
    pub same_top: f64,
    /// Positions compared.
    pub positions: usize,
}

/// Compares `model` with `baseline` on the start of `tokens`; none when the text is shorter than one window.
///
/// # Errors
/// Different vocabularies, logits that are not finite, a failed forward pass, or cancellation by `progress`, which is
/// told the number of windows done.
pub fn measure_agreement(
    name: &str,
    model: &Model,
    baseline: &Model,
    tokens: &[u32],
    request: &AgreementRequest,
    progress: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Option<Agreement>, EvaluationError> {
    let (found, expected) = (model.spec().vocab_size, baseline.spec().vocab_size);
    if found != expected {
        return Err(EvaluationError::Vocabulary { name: name.to_owned(), found, expected });
    }
    let context = model.spec().max_positions.min(baseline.spec().max_positions);
    let length = request.window_tokens.min(context).max(2);
    let windows: Vec<&[u32]> = tokens.chunks_exact(length).take(request.windows).collect();
    let wanted = length / 2..length;
    let mut comparison = Comparison::default();
    let mut reference = Vec::with_capacity(wanted.len() * expected);
    for (index, window) in windows.iter().enumerate() {
        reference.clear();
        for_logits(baseline, window, wanted.clone(), |_, logits| {
            reference.extend_from_slice(logits);
            Ok(())
        })?;
        let mut rows = reference.chunks_exact(expected);
        for_logits(model, window, wanted.clone(), |position, logits| {
            let row = rows.next().unwrap_or_default();
            let divergence = kullback_leibler(row, logits);
            if !divergence.is_finite() {
                return Err(EvaluationError::NotFinite { name: name.to_owned(), position });
            }
            comparison.add(divergence, largest(row) == largest(logits));
            Ok(())
        })?;
        if !progress(index + 1, windows.len()) {
            return Err(EvaluationError::Cancelled);
        }
    }
    Ok(comparison.result())
}

#[derive(Default)]
struct Comparison {
    positions: usize,
    sum: f64,
    sum_of_squares: f64,
    same: usize,
}

impl Comparison {
    fn add(&mut self, divergence: f64, same: bool) {
        self.positions += 1;
        self.sum += divergence;
        self.sum_of_squares += divergence * divergence;
        self.same += usize::from(same);
    }

    fn result(&self) -> Option<Agreement> {
        if self.positions == 0 {
            return None;
        }
        let count = self.positions as f64;
        let mean_kl = self.sum / count;
        let variance = (self.sum_of_squares / count - mean_kl * mean_kl).max(0.0);
        Some(Agreement {
            mean_kl,
            mean_kl_error: (variance / (count - 1.0).max(1.0)).sqrt(),
            same_top: self.same as f64 / count,
            positions: self.positions,
        })
    }
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
