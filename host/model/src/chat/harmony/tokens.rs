//! Harmony's special tokens and their ids.

use crate::tokenizer::Tokenizer;

/// A special token with a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpecialToken {
    /// A message begins with its header.
    Start,
    /// The header's channel follows.
    Channel,
    /// The form of the text follows.
    Constrain,
    /// The header is over, the text follows.
    Message,
    /// The message is over.
    End,
    /// The answer is over.
    Return,
    /// The message is over and its recipient is to act.
    Call,
    /// Nothing follows.
    EndOfText,
}

impl SpecialToken {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Start,
        Self::Channel,
        Self::Constrain,
        Self::Message,
        Self::End,
        Self::Return,
        Self::Call,
        Self::EndOfText,
    ];

    /// The token's text.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Start => "<|start|>",
            Self::Channel => "<|channel|>",
            Self::Constrain => "<|constrain|>",
            Self::Message => "<|message|>",
            Self::End => "<|end|>",
            Self::Return => "<|return|>",
            Self::Call => "<|call|>",
            Self::EndOfText => "<|endoftext|>",
        }
    }
}

/// The ids in one vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HarmonyTokens {
    ids: [u32; SpecialToken::ALL.len()],
}

impl HarmonyTokens {
    /// The ids in the vocabulary of `tokenizer`; `None` if it lacks one.
    #[must_use]
    pub fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let mut ids = [0; SpecialToken::ALL.len()];
        for (id, token) in ids.iter_mut().zip(SpecialToken::ALL) {
            *id = tokenizer.token_id(token.text())?;
        }
        Some(Self { ids })
    }

    /// The id of a token.
    #[must_use]
    pub fn id(&self, token: SpecialToken) -> u32 {
        let place = SpecialToken::ALL.iter().position(|other| *other == token);
        place.and_then(|place| self.ids.get(place)).copied().unwrap_or_default()
    }

    /// The token of an id.
    #[must_use]
    pub fn token(&self, id: u32) -> Option<SpecialToken> {
        let place = self.ids.iter().position(|other| *other == id)?;
        SpecialToken::ALL.get(place).copied()
    }
}
