//! The chat format of a model.

use super::answer_event::AnswerEvent;
use super::answer_parser::AnswerParser;
use super::conversation::Conversation;
use super::harmony::HarmonyFormat;
use super::template_format::TemplateFormat;
use crate::error::ModelError;
use crate::tokenizer::Tokenizer;

/// How a model wants conversations written, and how it writes its answers.
#[derive(Debug)]
pub enum ChatFormat {
    /// gpt-oss's.
    Harmony(HarmonyFormat),
    /// That of the checkpoint's template.
    Template(Box<TemplateFormat>),
}

/// A conversation, ready for the model.
#[derive(Debug)]
pub struct ChatPrompt {
    /// The prompt.
    pub tokens: Vec<u32>,
    /// What reads the answer.
    pub parser: AnswerParser,
    /// What the prompt says of the answer already: the call that was forced. Their token counts are 0.
    pub opening: Vec<AnswerEvent>,
}

impl ChatFormat {
    /// Whether the model can be told of functions and its calls can be read.
    #[must_use]
    pub fn supports_tools(&self) -> bool {
        match self {
            Self::Harmony(_) => true,
            Self::Template(format) => format.supports_tools(),
        }
    }

    /// Whether the model can be made to call a certain function.
    #[must_use]
    pub fn supports_forced_tool(&self) -> bool {
        matches!(self, Self::Harmony(_))
    }

    /// Whether the model can be told how long to think.
    #[must_use]
    pub fn supports_reasoning_effort(&self) -> bool {
        match self {
            Self::Harmony(_) => true,
            Self::Template(format) => format.supports_reasoning_effort(),
        }
    }

    /// The tokens that ask for the next answer, and the parser of that answer.
    ///
    /// # Errors
    /// What the template raises; a conversation that asks for what the format doesn't support.
    pub fn prompt(
        &self,
        tokenizer: &Tokenizer,
        conversation: &Conversation,
    ) -> Result<ChatPrompt, ModelError> {
        let refused =
            |what, found: &str| Err(ModelError::unsupported(what, found, "what the model's chat format has"));
        if !conversation.tools.is_empty() && !self.supports_tools() {
            return refused("tools of a conversation:", "functions");
        }
        if let Some(function) = conversation.forced_tool.as_deref().filter(|_| !self.supports_forced_tool()) {
            return refused("forced tool", function);
        }
        if let Some(effort) = conversation.reasoning_effort.filter(|_| !self.supports_reasoning_effort()) {
            return refused("reasoning effort", effort.name());
        }
        match self {
            Self::Harmony(format) => format.prompt(tokenizer, conversation),
            Self::Template(format) => format.prompt(tokenizer, conversation),
        }
    }
}
