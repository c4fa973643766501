//! What training minimises: next-token cross-entropy, and the distance to a teacher.
//!
//! All losses are means over the predicted tokens of a batch. With the teacher's logits z and the student's s at
//! temperature τ, the divergence is `τ² · KL(softmax(z/τ) ‖ softmax(s/τ))` (arXiv 1503.02531); with top-k, both
//! distributions are restricted to the teacher's k most probable tokens and normalised there. The hidden-state loss is the
//! mean over layers of the mean squared difference of the layers' outputs.

use candle_core::Tensor;
use espalier_model::ModelSpec;
use rayon::prelude::*;

use crate::batch::Batch;
use crate::error::TrainingError;
use crate::operation::values;
use crate::teacher::TeacherOutput;

/// How a student learns from a teacher.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distillation {
    /// Share of the divergence in the loss of the logits; the rest is cross-entropy.
    pub weight: f32,
    /// Temperature of both distributions.
    pub temperature: f32,
    /// Restricts the divergence to so many of the teacher's most probable tokens.
    pub top_k: Option<usize>,
    /// Factor on the hidden-state loss, which is added.
    pub hidden_weight: f32,
}

impl Default for Distillation {
    fn default() -> Self {
        Self { weight: 1.0, temperature: 1.0, top_k: None, hidden_weight: 0.0 }
    }
}

/// The loss of a batch.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Objective<'a> {
    /// Mean negative log-probability of the next token.
    CrossEntropy,
    /// The distance to what a teacher said about the same batch.
    Distillation {
        /// How much of what.
        settings: Distillation,
        /// What it said.
        teacher: &'a TeacherOutput,
    },
}

impl Objective<'_> {
    pub(crate) fn check(&self, spec: &ModelSpec, batch: &Batch) -> Result<(), TrainingError> {
        let Self::Distillation { settings, teacher } = self else { return Ok(()) };
        let expected = batch.tokens().len() * spec.vocab_size;
        if teacher.logits.len() != expected {
            let expected = format!("{expected}, the student's");
            return Err(TrainingError::argument("logits of the teacher", teacher.logits.len(), expected));
        }
        if settings.hidden_weight != 0.0 {
            let expected = batch.tokens().len() * spec.hidden_size;
            let fits = teacher.hidden.len() == spec.layers.len()
                && teacher.hidden.iter().all(|layer| layer.len() == expected);
            if !fits {
                let found = format!("{} layers", teacher.hidden.len());
                let expected = format!("{} layers of {expected} values, the student's", spec.layers.len());
                return Err(TrainingError::argument("hidden states of the teacher", found, expected));
            }
        }
        Ok(())
    }

    /// The part of the loss from rows `start..` of the logits `[rows, vocabulary]`, which are replaced by their gradients.
    pub(crate) fn logits_loss(
        &self,
        batch: &Batch,
        start: usize,
        vocabulary: usize,
        logits: &mut [f32],
    ) -> f64 {
        let share = 1.0 / batch.targets() as f32;
        let losses: Vec<f64> = logits
            .par_chunks_exact_mut(vocabulary)
            .enumerate()
            .map(|(row, logits)| {
                let row = start + row;
                let Some(target) = batch.target(row) else {
                    logits.fill(0.0);
                    return 0.0;
                };
                self.row_loss(row, target as usize, share, logits)
            })
            .collect();
        losses.into_iter().sum::<f64>() * f64::from(share)
    }

    fn row_loss(&self, row: usize, target: usize, share: f32, logits: &mut [f32]) -> f64 {
        match self {
            Self::CrossEntropy => cross_entropy(target, share, logits),
            Self::Distillation { settings, teacher } => {
                let width = logits.len();
                let teacher = teacher.logits.get(row * width..(row + 1) * width).unwrap_or_default();
                let mut loss = 0.0;
                let mut of_tokens = vec![0.0; 0];
                if settings.weight < 1.0 {
                    of_tokens = logits.to_vec();
                    let weight = 1.0 - settings.weight;
                    loss += f64::from(weight) * cross_entropy(target, weight * share, &mut of_tokens);
                }
                let factor = settings.weight * share;
                loss += f64::from(settings.weight) * divergence(settings, teacher, factor, logits);
                for (sum, other) in logits.iter_mut().zip(of_tokens) {
                    *sum += other;
                }
                loss
            }
        }
    }

    /// The part of the loss from the output `[rows, hidden_size]` of a layer, and its gradient.
    pub(crate) fn hidden_loss(
        &self,
        layer: usize,
        output: &Tensor,
    ) -> Result<(f64, Option<Tensor>), TrainingError> {
        let Self::Distillation { settings, teacher } = self else { return Ok((0.0, None)) };
        let Some(expected) = teacher.hidden.get(layer).filter(|_| settings.hidden_weight != 0.0) else {
            return Ok((0.0, None));
        };
        let (loss, gradient) = values::read(output, |output| {
            let factor = settings.hidden_weight / (output.len() * teacher.hidden.len()) as f32;
            let difference: Vec<f32> = output.iter().zip(expected).map(|(a, b)| a - b).collect();
            let loss = crate::sum::squares(&difference) * f64::from(factor);
            Ok((loss, difference.into_iter().map(|value| 2.0 * factor * value).collect()))
        })?;
        Ok((loss, Some(values::tensor(gradient, output.shape().clone())?)))
    }
}

/// Replaces logits by `exp(logit / temperature - log_sum)`, a distribution; returns its logarithm's offset `log_sum`.
fn softmax(logits: &mut [f32], temperature: f32) -> f64 {
    let scale = 1.0 / temperature;
    let largest = logits.iter().fold(f32::NEG_INFINITY, |largest, logit| largest.max(*logit)) * scale;
    let mut sum = 0.0_f64;
    for logit in logits.iter_mut() {
        *logit = (*logit * scale - largest).exp();
        sum += f64::from(*logit);
    }
    let share = (1.0 / sum) as f32;
    logits.iter_mut().for_each(|value| *value *= share);
    f64::from(largest) + sum.ln()
}

/// The loss of a row; its logits become gradients, times `share`.
fn cross_entropy(target: usize, share: f32, logits: &mut [f32]) -> f64 {
    let of_target = logits.get(target).copied().unwrap_or(f32::NEG_INFINITY);
    let loss = softmax(logits, 1.0) - f64::from(of_target);
    logits.iter_mut().for_each(|probability| *probability *= share);
    if let Some(value) = logits.get_mut(target) {
        *value -= share;
    }
    loss
}

fn divergence(settings: &Distillation, teacher: &[f32], share: f32, logits: &mut [f32]) -> f64 {
    match settings.top_k.filter(|k| *k < logits.len()) {
        None => {
            let mut teacher = teacher.to_vec();
            whole_divergence(settings.temperature, &mut teacher, share, logits)
        }
        Some(k) => {
            let mut order: Vec<usize> = (0..teacher.len()).collect();
            let value = |index: usize| teacher.get(index).copied().unwrap_or(f32::NEG_INFINITY);
            // Of equal logits the lower token is taken, so that the choice is the same everywhere.
            let descending = |a: &usize, b: &usize| value(*b).total_cmp(&value(*a)).then(a.cmp(b));
            if k > 0 {
                order.select_nth_unstable_by(k - 1, descending);
            }
            order.truncate(k);
            order.sort_unstable();
            let mut chosen: Vec<f32> = order.iter().map(|index| value(*index)).collect();
            let mut own: Vec<f32> = order.iter().filter_map(|index| logits.get(*index).copied()).collect();
            let loss = whole_divergence(settings.temperature, &mut chosen, share, &mut own);
            logits.fill(0.0);
            for (index, gradient) in order.into_iter().zip(own) {
                if let Some(place) = logits.get_mut(index) {
                    *place = gradient;
                }
            }
            loss
        }
    }
}

/// `τ² KL(teacher ‖ student)`; the student's logits become gradients `τ (q - p)`, times `share`.
fn whole_divergence(temperature: f32, teacher: &mut [f32], share: f32, logits: &mut [f32]) -> f64 {
    let scaled =
        |logits: &[f32]| logits.iter().map(|logit| f64::from(logit / temperature)).collect::<Vec<_>>();
    let (of_teacher, of_student) = (scaled(teacher), scaled(logits));
    let (teacher_sum, student_sum) = (softmax(teacher, temperature), softmax(logits, temperature));
    let mut loss = 0.0;
    for ((probability, teacher), student) in teacher.iter().zip(of_teacher).zip(of_student) {
        if *probability > 0.0 {
            loss += f64::from(*probability) * ((teacher - teacher_sum) - (student - student_sum));
        }
    }
    for (student, teacher) in logits.iter_mut().zip(teacher) {
        *student = share * temperature * (*student - *teacher);
    }
    loss * f64::from(temperature).powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEACHER: [f32; 5] = [0.3, -1.0, 2.0, 0.1, 1.4];
    const STUDENT: [f32; 5] = [1.0, 0.5, -0.5, 0.2, 1.1];

    fn assert_differences(loss: impl Fn(&mut [f32]) -> f64) {
        let mut gradients = STUDENT;
        loss(&mut gradients);
        for (index, found) in gradients.into_iter().enumerate() {
            let at = |step: f32| {
                let mut moved = STUDENT;
                moved[index] += step;
                loss(&mut moved)
            };
            let expected = (at(1e-2) - at(-1e-2)) / 2e-2;
            assert!((f64::from(found) - expected).abs() < 1e-4, "{index}: {found}, expected {expected}");
        }
    }

    #[test]
    fn gradients_are_those_of_small_differences() {
        assert_differences(|logits| cross_entropy(3, 1.0, logits));
        for top_k in [None, Some(3), Some(1)] {
            let settings = Distillation { temperature: 1.7, top_k, ..Distillation::default() };
            assert_differences(|logits| divergence(&settings, &TEACHER, 1.0, logits));
        }
    }

    #[test]
    fn an_equal_student_has_no_divergence() {
        let mut logits = TEACHER;
        let loss = divergence(&Distillation::default(), &TEACHER, 1.0, &mut logits);
        assert!(loss.abs() < 1e-7 && logits.iter().all(|gradient| gradient.abs() < 1e-7));
        let other = divergence(&Distillation::default(), &TEACHER, 1.0, &mut STUDENT.clone());
        assert!(other > 0.1, "{other}");
    }
}
