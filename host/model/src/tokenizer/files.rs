//! The files beside the weights that make a directory's tokenizer work.

use serde::Deserialize;
use serde_json::Value;

use super::o200k_harmony;
use crate::error::ModelError;

/// The tokenizer's files of an HF directory, from whichever source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenizerFiles {
    /// `tokenizer.json`, kept as text so that a copy is the same byte for byte.
    pub tokenizer_json: Option<String>,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Value,
    /// `generation_config.json`.
    pub generation_config: Value,
    /// `special_tokens_map.json`.
    pub special_tokens_map: Value,
    /// `chat_template.jinja`, where a directory has it; it goes before the template in `tokenizer_config.json`.
    pub chat_template_file: Option<String>,
}

impl TokenizerFiles {
    /// gpt-oss's tokenizer (o200k_harmony), from the vocabulary that this program carries.
    ///
    /// # Errors
    /// The bundled vocabulary is damaged.
    pub fn o200k_harmony() -> Result<Self, ModelError> {
        o200k_harmony::complete(Self::default())
    }

    /// The source of the chat template. Of several named ones, `default`.
    #[must_use]
    pub fn chat_template(&self) -> Option<&str> {
        if let Some(source) = &self.chat_template_file {
            return Some(source);
        }
        match self.tokenizer_config.get("chat_template")? {
            Value::String(source) => Some(source),
            Value::Array(named) => named
                .iter()
                .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))
                .and_then(|entry| entry.get("template"))
                .and_then(Value::as_str),
            _ => None,
        }
    }

    /// The text of a special token such as `bos_token`, from either of the two files that may define it.
    #[must_use]
    pub fn special_token(&self, role: &str) -> Option<&str> {
        [&self.tokenizer_config, &self.special_tokens_map].into_iter().find_map(|file| {
            match file.get(role)? {
                Value::String(text) => Some(text.as_str()),
                Value::Object(token) => token.get("content").and_then(Value::as_str),
                _ => None,
            }
        })
    }

    /// Whether the tokenizer puts BOS in front of a text: its post-processor begins with a special token.
    pub(crate) fn adds_bos(&self) -> bool {
        let Some(text) = &self.tokenizer_json else { return false };
        // Everything else is skipped without being built: the vocabulary has megabytes.
        let Ok(PostProcessor { post_processor }) = serde_json::from_str(text) else { return false };
        begins_with_special_token(&post_processor)
    }
}

#[derive(Deserialize)]
struct PostProcessor {
    #[serde(default)]
    post_processor: Value,
}

fn begins_with_special_token(processor: &Value) -> bool {
    if let Some(Value::Array(steps)) = processor.get("processors") {
        return steps.iter().any(begins_with_special_token);
    }
    processor.pointer("/single/0/SpecialToken").is_some()
}
