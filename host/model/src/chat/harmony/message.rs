//! Harmony's messages.

use super::content::{DeveloperContent, SystemContent};

/// Who a message is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Author {
    /// Facts about the model and the conversation.
    System,
    /// Instructions and tools.
    Developer,
    /// A person.
    User,
    /// The model.
    Assistant,
    /// A tool, by its full name: `functions.get_weather`.
    Tool(String),
}

impl Author {
    /// The word in the header.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool(name) => name,
        }
    }
}

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Text as it is.
    Text(String),
    /// The system message's fields.
    System(SystemContent),
    /// The developer message's fields.
    Developer(DeveloperContent),
}

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub struct HarmonyMessage {
    /// Who it is from.
    pub author: Author,
    /// Whom it is for, if not for everybody.
    pub recipient: Option<String>,
    /// `analysis`, `commentary` or `final`, for messages of the model and its tools.
    pub channel: Option<String>,
    /// The form of the text; `<|constrain|>json` writes the marker as a token.
    pub content_type: Option<String>,
    /// What it says.
    pub content: Content,
}

impl HarmonyMessage {
    /// A message with no more than an author.
    #[must_use]
    pub const fn new(author: Author, content: Content) -> Self {
        Self { author, recipient: None, channel: None, content_type: None, content }
    }

    /// A message of text.
    #[must_use]
    pub fn text(author: Author, text: impl Into<String>) -> Self {
        Self::new(author, Content::Text(text.into()))
    }

    /// The message in a channel.
    #[must_use]
    pub fn in_channel(self, channel: impl Into<String>) -> Self {
        Self { channel: Some(channel.into()), ..self }
    }

    /// The message for a recipient.
    #[must_use]
    pub fn to(self, recipient: impl Into<String>) -> Self {
        Self { recipient: Some(recipient.into()), ..self }
    }

    /// The message with the form of its text stated.
    #[must_use]
    pub fn of_type(self, content_type: impl Into<String>) -> Self {
        Self { content_type: Some(content_type.into()), ..self }
    }

    pub(super) fn is_in(&self, channel: &str) -> bool {
        self.channel.as_deref() == Some(channel)
    }
}
