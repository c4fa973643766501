//! Harmony, the format of gpt-oss's conversations.
//!
//! A message is `<|start|>{author}[ to={recipient}][<|channel|>{channel}][ {content type}]<|message|>{text}<|end|>`.
//! The special tokens are tokens and never text: what users write can't end a message. Rendering equals
//! openai/harmony's golden files; the format is described in that repository's `docs/format.md`.

mod content;
mod format;
mod header;
mod message;
mod parser;
mod render;
mod tokens;
mod typescript;

pub use self::content::{DeveloperContent, ResponseFormat, SystemContent, ToolNamespace};
pub use self::format::HarmonyFormat;
pub use self::message::{Author, Content, HarmonyMessage};
pub use self::parser::HarmonyParser;
pub use self::render::{HarmonyPiece, pieces_for_completion, pieces_of_conversation, text_of};
pub use self::tokens::{HarmonyTokens, SpecialToken};
