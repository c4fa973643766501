//! What reads an answer, whatever its format.

use super::answer_event::{AnswerEvent, AnswerPart};
use super::harmony::HarmonyParser;
use super::tagged_parser::TaggedParser;

/// The parser of one answer. It takes any tokens and never fails.
#[derive(Clone, Debug)]
pub enum AnswerParser {
    /// The whole text is the answer.
    Plain,
    /// Harmony.
    Harmony(Box<HarmonyParser>),
    /// Thoughts and calls between tags.
    Tagged(Box<TaggedParser>),
}

impl AnswerParser {
    /// The same for an answer whose text is kept to a form, in which nothing else is to be looked for.
    #[must_use]
    pub fn with_literal_content(self) -> Self {
        match self {
            Self::Tagged(parser) => Self::Tagged(Box::new(parser.with_literal_content())),
            other => other,
        }
    }

    /// Takes what the engine generated: tokens, and the text that they completed, control tokens left out.
    pub fn push(&mut self, text: &str, ids: &[u32]) -> Vec<AnswerEvent> {
        match self {
            Self::Plain if text.is_empty() => vec![AnswerEvent::new(ids.len(), AnswerPart::Framing)],
            Self::Plain => vec![AnswerEvent::new(ids.len(), AnswerPart::Content(text.to_owned()))],
            Self::Harmony(parser) => ids.iter().flat_map(|&id| parser.push(id)).collect(),
            Self::Tagged(parser) => ids.iter().flat_map(|&id| parser.push(id)).collect(),
        }
    }

    /// No more tokens come.
    pub fn finish(&mut self) -> Vec<AnswerEvent> {
        match self {
            Self::Plain => Vec::new(),
            Self::Harmony(parser) => parser.finish(),
            Self::Tagged(parser) => parser.finish(),
        }
    }
}
