//! Which scores of tokens belong to which piece of an answer.

use std::collections::VecDeque;

use espalier_engine::TokenLogprobs;

use crate::openai::logprobs::{LogprobEntry, LogprobReader};

/// Scores of tokens, on their way from the engine to the piece of text that they are told with.
#[derive(Clone, Debug, Default)]
pub struct ScoreLedger {
    /// Without one nothing is told.
    reader: Option<LogprobReader>,
    /// Of tokens that no part of the answer has accounted for yet.
    unclaimed: VecDeque<TokenLogprobs>,
    /// Of tokens of the answer's text that are still to be told.
    claimed: Vec<TokenLogprobs>,
}

impl ScoreLedger {
    /// Tells what `reader` makes of them.
    #[must_use]
    pub fn new(reader: LogprobReader) -> Self {
        Self { reader: Some(reader), ..Self::default() }
    }

    /// The entries of an echoed prompt.
    pub fn read_prompt(&mut self, scores: &[TokenLogprobs]) -> Vec<LogprobEntry> {
        self.reader.as_mut().map(|reader| reader.read_prompt(scores)).unwrap_or_default()
    }

    /// Takes the scores of the next tokens.
    pub fn receive(&mut self, scores: Vec<TokenLogprobs>) {
        self.unclaimed.extend(scores);
    }

    /// A part of the answer accounts for the next `tokens`; only those of its text are told.
    pub fn claim(&mut self, tokens: usize, is_text: bool) {
        let scores = self.unclaimed.drain(..tokens.min(self.unclaimed.len()));
        if is_text {
            self.claimed.extend(scores);
        }
    }

    /// Whether there are claimed scores that no piece has told.
    #[must_use]
    pub fn has_untold(&self) -> bool {
        !self.claimed.is_empty()
    }

    /// The entries of a piece: all that was claimed up to it.
    pub fn tell(&mut self) -> Vec<LogprobEntry> {
        let scores = std::mem::take(&mut self.claimed);
        self.reader.as_mut().map(|reader| reader.read(&scores)).unwrap_or_default()
    }
}
