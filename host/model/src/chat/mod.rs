//! Chat formats: a conversation to the tokens that a model was trained on, and its answer back into parts.
//!
//! [`ChatFormat`] picks between the two ways: Harmony for gpt-oss ([`harmony`]), a template for every other family
//! ([`ChatTemplate`]). Both take a [`Conversation`] and give a [`ChatPrompt`]: tokens, and the [`AnswerParser`] that
//! reads what the model makes of them. Rendering can refuse; parsing can't: any tokens give [`AnswerEvent`]s.

#![deny(clippy::indexing_slicing)]

mod answer_event;
mod answer_parser;
mod conversation;
mod date;
mod format;
pub mod harmony;
mod json;
mod tagged_parser;
mod template;
mod template_format;

pub use self::answer_event::{AnswerEvent, AnswerPart, EndOfAnswer, Malformation};
pub use self::answer_parser::AnswerParser;
pub use self::conversation::{Conversation, FunctionTool, ReasoningEffort, ToolCall, Turn};
pub use self::format::{ChatFormat, ChatPrompt};
pub use self::tagged_parser::TaggedParser;
pub use self::template::{ChatMessage, ChatTemplate};
pub use self::template_format::TemplateFormat;
