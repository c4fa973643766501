//! `POST /v1/chat/completions`, parsed.

use espalier_engine::{MAX_TOP_LOGPROBS, SamplingParams};
use espalier_model::chat::{ReasoningEffort, Turn};
use serde_json::Value;

use crate::api_error::{ApiError, ErrorKind};
use crate::fields::Fields;
use crate::model_address::ModelAddress;
use crate::openai::chat_fields::CHAT_FIELDS;
use crate::openai::completion_request::{address, max_tokens};
use crate::openai::message::turns;
use crate::openai::output_constraint::{OutputConstraint, chat_output_constraint};
use crate::openai::preference::Preference;
use crate::openai::request_field::{names, take_unimplemented};
use crate::openai::sampling::{Delivery, alternatives, choice_count, delivery, sampling, stop};
use crate::openai::scheduling::Scheduling;
use crate::openai::tools::{Requirement, ToolUse, tool_use};

/// A chat request that says only what this server does.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    /// Whose answer.
    pub address: ModelAddress,
    /// At least one message.
    pub turns: Vec<Turn>,
    /// What the model may call.
    pub tools: ToolUse,
    /// What the answer's text is kept to.
    pub constraint: Option<OutputConstraint>,
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
    /// How many answers.
    pub choices: usize,
    /// How many alternatives are told with each token's log-probability, if that is told.
    pub logprobs: Option<usize>,
    /// How it stands to other requests.
    pub scheduling: Scheduling,
    /// What the router is told of the client's wishes.
    pub preference: Preference,
}

impl ChatRequest {
    /// Parses the JSON body.
    pub fn parse(body: Value) -> Result<Self, ApiError> {
        let mut fields = Fields::of_body(body)?;
        let address = address(&mut fields)?;
        let turns = turns(&mut fields)?;
        let tools = tool_use(&mut fields)?;
        let constraint = chat_output_constraint(&mut fields)?;
        if let (Some(constraint), true) = (&constraint, tools.requirement != Requirement::Optional) {
            let message = format!("{}: found beside a call that tool_choice requires", constraint.field);
            return Err(ApiError::new(ErrorKind::InvalidValue, message).at(constraint.field.clone()));
        }
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
        let choices = choice_count(&mut fields, "n")?.unwrap_or(1);
        let logprobs = logprobs(&mut fields)?;
        let scheduling = Scheduling::parse(&mut fields)?;
        let preference = Preference::parse(&mut fields, scheduling.user())?;
        take_unimplemented(&mut fields, CHAT_FIELDS)?;
        fields.finish(&names(CHAT_FIELDS))?;
        let max_tokens = newer.or(older);
        Ok(Self {
            address,
            turns,
            tools,
            constraint,
            reasoning_effort,
            max_tokens,
            sampling,
            stop,
            delivery,
            choices,
            logprobs,
            scheduling,
            preference,
        })
    }
}

/// `logprobs` says whether, `top_logprobs` how many alternatives.
fn logprobs(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let is_asked = fields.boolean("logprobs")?.unwrap_or(false);
    let top = alternatives(fields, "top_logprobs", MAX_TOP_LOGPROBS as u64)?;
    match top {
        Some(top) if !is_asked => {
            Err(ApiError::field("top_logprobs", top, "no top_logprobs unless logprobs is true"))
        }
        top => Ok(is_asked.then(|| top.unwrap_or_default())),
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
    fn top_logprobs_need_logprobs() {
        assert_eq!(with("logprobs", json!(true)).unwrap().logprobs, Some(0));
        assert_eq!(with("logprobs", json!(false)).unwrap().logprobs, None);
        assert_eq!(with("top_logprobs", json!(3)).unwrap_err().param(), Some("top_logprobs"));
        let body = |top: u32| json!({"model": "m", "messages": [{"role": "user", "content": "a"}], "logprobs": true, "top_logprobs": top});
        assert_eq!(ChatRequest::parse(body(20)).unwrap().logprobs, Some(20));
        assert_eq!(ChatRequest::parse(body(21)).unwrap_err().param(), Some("top_logprobs"));
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
