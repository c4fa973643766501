//! An answer of an engine, as an endpoint reads it.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use espalier_components::{Answer, AnswerEnd, AnswerStep};

use crate::openai::delta::Delta;
use crate::openai::frames::Choice;

/// One choice with the steps that were read and not yet taken. Dropping it cancels the sequence.
pub(super) struct Session {
    address: String,
    choice: Choice,
    ready: VecDeque<AnswerStep>,
}

impl Session {
    /// The answer of the variant at `address`.
    pub(super) fn new(address: String, mut choice: Choice) -> Self {
        let ready = std::mem::take(&mut choice.opening).into_iter().filter_map(step).collect();
        Self { address, choice, ready }
    }
}

impl Answer for Session {
    fn answering(&self) -> &str {
        &self.address
    }

    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<AnswerStep> {
        loop {
            if let Some(step) = self.ready.pop_front() {
                if matches!(step, AnswerStep::Finished(_)) {
                    self.choice.satisfied.set();
                }
                return Poll::Ready(step);
            }
            match self.choice.stream.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    let reason = "the engine ended before the answer did".to_owned();
                    return Poll::Ready(AnswerStep::Failed(reason));
                }
                Poll::Ready(Some(event)) => match self.choice.reader.take(event) {
                    Ok(deltas) => self.ready.extend(deltas.into_iter().filter_map(step)),
                    Err(error) => return Poll::Ready(AnswerStep::Failed(error.to_string())),
                },
            }
        }
    }
}

/// A piece of an answer. Calls need functions, which an endpoint cannot offer.
fn step(delta: Delta) -> Option<AnswerStep> {
    match delta {
        Delta::Content { text, .. } => Some(AnswerStep::Text(text)),
        Delta::Reasoning(text) => Some(AnswerStep::Reasoning(text)),
        Delta::ToolCall { .. } | Delta::Arguments { .. } => None,
        Delta::Finished(ending) => Some(AnswerStep::Finished(AnswerEnd {
            cut: ending.reason == "length",
            prompt_tokens: ending.usage.prompt,
            tokens: ending.usage.completion,
        })),
    }
}
