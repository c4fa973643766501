//! `POST /v1/chat/completions`, parsed.

use espalier_engine::SamplingParams;
use espalier_model::chat::{ReasoningEffort, Turn};
use serde_json::Value;

use crate::api_error::{ApiError, ErrorKind};
use crate::fields::Fields;
use crate::model_address::ModelAddress;
use crate::openai::completion_request::{address, max_tokens};
use crate::openai::message::turns;
use crate::openai::request_field::{CHAT_FIELDS, names, take_unimplemented};
use crate::openai::sampling::{Delivery, delivery, sampling, stop};
use crate::openai::tools::{ToolUse, tool_use};

/// A chat request that says only what this server does.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    /// Whose answer.
    pub address: ModelAddress,
    /// At least one message.
    pub turns: Vec<Turn>,
    /// What the model may call.
    pub tools: ToolUse,
    /// How long the model should think.
    pub reasoning_effort: Option<ReasoningEffort>,
    /// Most tokens of the answer; `None` is what is left of the context.
    pub max_tokens: Option<usize>,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// How the answer is sent.
    pub delivery: Delivery,
}

impl ChatRequest {
    /// Parses the JSON body.
    pub fn parse(body: Value) -> Result<Self, ApiError> {
        let mut fields = Fields::of_body(body)?;
        let address = address(&mut fields)?;
        let turns = turns(&mut fields)?;
        let tools = tool_use(&mut fields)?;
        let reasoning_effort = reasoning_effort(&mut fields)?;
        let newer = max_tokens(&mut fields, "max_completion_tokens")?;
        let older = max_tokens(&mut fields, "max_tokens")?;
        if let (Some(newer), Some(older)) = (newer, older)
            && newer != older
        {
            return Err(ApiError::field(
                "max_tokens",
                older,
                format!("{newer}, as in max_completion_tokens"),
            ));
        }
        let sampling = sampling(&mut fields)?;
        let stop = stop(&mut fields)?;
        let delivery = delivery(&mut fields)?;
        take_unimplemented(&mut fields, CHAT_FIELDS)?;
        fields.finish(&names(CHAT_FIELDS))?;
        let max_tokens = newer.or(older);
        Ok(Self { address, turns, tools, reasoning_effort, max_tokens, sampling, stop, delivery })
    }
}

/// The levels that models were trained on, and OpenAI's `minimal` as the lowest of them.
fn reasoning_effort(fields: &mut Fields) -> Result<Option<ReasoningEffort>, ApiError> {
    let path = fields.path("reasoning_effort");
    let Some(word) = fields.string("reasoning_effort")? else { return Ok(None) };
    match word.as_str() {
        "minimal" | "low" => Ok(Some(ReasoningEffort::Low)),
        "medium" => Ok(Some(ReasoningEffort::Medium)),
        "high" => Ok(Some(ReasoningEffort::High)),
        "none" | "xhigh" => Err(ApiError::field(path, word, "minimal, low, medium or high")
            .of_kind(ErrorKind::UnsupportedParameter)),
        _ => Err(ApiError::field(path, word, "minimal, low, medium or high")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(field: &str, value: Value) -> Result<ChatRequest, ApiError> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "a"}]});
        body[field] = value;
        ChatRequest::parse(body)
    }

    #[test]
    fn the_two_names_of_the_limit_must_agree() {
        let body = |newer: u32, older: u32| json!({"model": "m", "messages": [{"role": "user", "content": "a"}], "max_tokens": older, "max_completion_tokens": newer});
        assert_eq!(ChatRequest::parse(body(5, 5)).unwrap().max_tokens, Some(5));
        assert_eq!(ChatRequest::parse(body(5, 6)).unwrap_err().param(), Some("max_tokens"));
    }

    #[test]
    fn efforts_are_levels() {
        assert_eq!(with("reasoning_effort", json!(null)).unwrap().reasoning_effort, None);
        for (word, effort) in [("minimal", ReasoningEffort::Low), ("high", ReasoningEffort::High)] {
            assert_eq!(with("reasoning_effort", json!(word)).unwrap().reasoning_effort, Some(effort));
        }
        for (word, kind) in [
            (json!("none"), ErrorKind::UnsupportedParameter),
            (json!("great"), ErrorKind::InvalidValue),
            (json!(3), ErrorKind::InvalidValue),
        ] {
            let error = with("reasoning_effort", word).unwrap_err();
            assert_eq!((error.param(), error.kind()), (Some("reasoning_effort"), kind));
        }
    }
}
