//! Whole choices, and which of them are answered.

use espalier_engine::Event;

use crate::api_error::{ApiError, ErrorKind};
use crate::openai::delta::{ChoiceUsage, Delta};
use crate::openai::frames::Choice;

/// How many choices are generated for each prompt, and how many of them are answered: those whose tokens have the
/// greatest mean log-probability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Choices generated, at least as many as answered.
    pub generated: usize,
    /// Choices answered.
    pub answered: usize,
}

/// A choice that has been read to its end.
pub struct WholeChoice {
    /// What it says.
    pub deltas: Vec<Delta>,
    /// What it took.
    pub usage: ChoiceUsage,
    /// Of its tokens, where the engine was asked for log-probabilities.
    mean_logprob: f64,
}

impl Selection {
    /// Every choice is answered.
    #[must_use]
    pub const fn all(choices: usize) -> Self {
        Self { generated: choices, answered: choices }
    }

    /// Whether some are left out, for which their log-probabilities have to be known.
    #[must_use]
    pub const fn selects(&self) -> bool {
        self.generated > self.answered
    }

    /// The choices to answer with: of each prompt's, which follow each other, the best first; all in their order if none is
    /// left out.
    #[must_use]
    pub fn best(&self, mut choices: Vec<WholeChoice>) -> Vec<WholeChoice> {
        if !self.selects() {
            return choices;
        }
        let mut best = Vec::with_capacity(choices.len());
        while !choices.is_empty() {
            let rest = choices.split_off(self.generated.min(choices.len()));
            choices.sort_by(|a, b| b.mean_logprob.total_cmp(&a.mean_logprob));
            choices.truncate(self.answered);
            best.append(&mut choices);
            choices = rest;
        }
        best
    }
}

impl WholeChoice {
    /// Reads a choice to its end.
    ///
    /// # Errors
    /// The engine failed, or ended before it.
    pub async fn read(choice: Choice) -> Result<Self, ApiError> {
        let Choice { mut stream, mut reader, opening: mut deltas, satisfied } = choice;
        let (mut sum, mut tokens) = (0.0, 0);
        while let Some(event) = stream.recv().await {
            if let Event::Text { logprobs, .. } = &event {
                sum += logprobs.iter().map(|token| f64::from(token.logprob)).sum::<f64>();
                tokens += logprobs.len();
            }
            deltas.extend(reader.take(event)?);
            if let Some(Delta::Finished(ending)) = deltas.last() {
                let usage = ending.usage;
                satisfied.set();
                return Ok(Self { deltas, usage, mean_logprob: sum / tokens.max(1) as f64 });
            }
        }
        Err(ApiError::new(ErrorKind::Internal, "the engine ended before the answer did"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_prompts_best_are_kept() {
        let choice = |mean_logprob: f64| WholeChoice {
            deltas: vec![Delta::content(mean_logprob.to_string())],
            usage: ChoiceUsage::default(),
            mean_logprob,
        };
        let kept = |selection: Selection| -> Vec<f64> {
            let choices = [-3.0, -1.0, -2.0, -0.5, -9.0, -7.0].map(choice).into();
            selection.best(choices).iter().map(|choice| choice.mean_logprob).collect()
        };
        assert_eq!(kept(Selection { generated: 3, answered: 2 }), [-1.0, -2.0, -0.5, -7.0]);
        assert_eq!(kept(Selection { generated: 6, answered: 1 }), [-0.5]);
        assert_eq!(kept(Selection::all(3)), [-3.0, -1.0, -2.0, -0.5, -9.0, -7.0]);
    }
}
