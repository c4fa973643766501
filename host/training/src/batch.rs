//! Tokens for one forward pass: sequences of equal length, each from its first position.

use espalier_model::ModelSpec;

use crate::error::TrainingError;

/// Sequences of equal length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    tokens: Vec<u32>,
    positions: usize,
}

impl Batch {
    /// A batch of `sequences`.
    ///
    /// # Errors
    /// No sequence, one of less than two tokens (nothing could be predicted), or unequal ones.
    pub fn new(sequences: &[Vec<u32>]) -> Result<Self, TrainingError> {
        let positions = sequences.first().map_or(0, Vec::len);
        if positions < 2 {
            return Err(TrainingError::argument("tokens of a sequence", positions, "at least 2"));
        }
        if let Some(other) = sequences.iter().find(|other| other.len() != positions) {
            let expected = format!("{positions}, as in the batch's first");
            return Err(TrainingError::argument("tokens of a sequence", other.len(), expected));
        }
        Ok(Self { tokens: sequences.concat(), positions })
    }

    /// All tokens, sequence after sequence.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Length of a sequence.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// The token that row `row` of the logits is to predict; the last of a sequence predicts none.
    pub(crate) fn target(&self, row: usize) -> Option<u32> {
        let last = (row + 1).is_multiple_of(self.positions);
        if last { None } else { self.tokens.get(row + 1).copied() }
    }

    /// Tokens that are predicted.
    pub(crate) fn targets(&self) -> usize {
        self.tokens.len() - self.tokens.len() / self.positions
    }

    pub(crate) fn check(&self, spec: &ModelSpec) -> Result<(), TrainingError> {
        if self.positions > spec.max_positions {
            let expected = format!("at most {}, the model's context length", spec.max_positions);
            return Err(TrainingError::argument("tokens of a sequence", self.positions, expected));
        }
        match self.tokens.iter().find(|token| **token as usize >= spec.vocab_size) {
            Some(token) => {
                let expected = format!("less than the vocabulary size {}", spec.vocab_size);
                Err(TrainingError::argument("token", token, expected))
            }
            None => Ok(()),
        }
    }
}
