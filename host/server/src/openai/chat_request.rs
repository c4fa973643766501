//! `POST /v1/chat/completions`, parsed.

use serde_json::Value;

use crate::api_error::{ApiError, ErrorKind};
use crate::fields::Fields;
use crate::model_address::ModelAddress;
use crate::openai::completion_request::{address, max_tokens};
use crate::openai::request_field::{CHAT_FIELDS, names, take_unimplemented};
use crate::openai::sampling::{Delivery, Sampling, delivery, sampling, stop};

/// Most messages in one request.
const MESSAGE_LIMIT: usize = 4096;

/// Who speaks, in the words of the chat templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions; `developer` is read as this.
    System,
    /// The person.
    User,
    /// The model, in an earlier turn.
    Assistant,
}

impl Role {
    /// The name that chat templates know.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; parts are joined without a separator.
    pub content: String,
}

/// A chat request that says only what this server does.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    /// Whose answer.
    pub address: ModelAddress,
    /// At least one message.
    pub messages: Vec<Message>,
    /// Most tokens of the answer; `None` is what is left of the context.
    pub max_tokens: Option<usize>,
    /// How tokens are chosen.
    pub sampling: Sampling,
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
        let messages = messages(&mut fields)?;
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
        Ok(Self { address, messages, max_tokens: newer.or(older), sampling, stop, delivery })
    }
}

fn messages(fields: &mut Fields) -> Result<Vec<Message>, ApiError> {
    let items = fields
        .list("messages")?
        .ok_or_else(|| ApiError::missing("messages", "a list of at least one message"))?;
    if items.is_empty() || items.len() > MESSAGE_LIMIT {
        let found = format!("{} messages", items.len());
        return Err(ApiError::field("messages", found, format!("1 to {MESSAGE_LIMIT} messages")));
    }
    items.into_iter().enumerate().map(|(index, item)| message(index, item)).collect()
}

fn message(index: usize, item: Value) -> Result<Message, ApiError> {
    let mut fields = Fields::of(format!("messages[{index}]"), item)?;
    let path = fields.path("role");
    let role = match fields.string("role")?.as_deref() {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some(other) => {
            return Err(ApiError::field(path, other, "system, developer, user or assistant")
                .of_kind(ErrorKind::UnsupportedParameter));
        }
        None => return Err(ApiError::missing(path, "system, developer, user or assistant")),
    };
    let content = content(&mut fields)?;
    // A client that sends an earlier answer back sends these along; `null` (or an empty list) says nothing.
    for name in
        ["refusal", "audio", "function_call", "tool_calls", "annotations", "name", "reasoning_content"]
    {
        let path = fields.path(name);
        match fields.take(name) {
            None => {}
            Some(Value::Array(items)) if items.is_empty() => {}
            Some(_) => {
                let message = format!("{path} is not implemented by this server");
                return Err(ApiError::new(ErrorKind::UnsupportedParameter, message).at(path));
            }
        }
    }
    fields.finish(&["role", "content"])?;
    Ok(Message { role, content })
}

fn content(fields: &mut Fields) -> Result<String, ApiError> {
    const EXPECTED: &str = "a string or a list of text parts";
    let path = fields.path("content");
    let parts = match fields.take("content") {
        None => return Err(ApiError::missing(path, EXPECTED)),
        Some(Value::String(text)) => return Ok(text),
        Some(Value::Array(parts)) if !parts.is_empty() => parts,
        Some(other) => return Err(ApiError::field(path, other, EXPECTED)),
    };
    let mut content = String::new();
    for (index, part) in parts.into_iter().enumerate() {
        let mut part = Fields::of(format!("{path}[{index}]"), part)?;
        let type_path = part.path("type");
        match part.string("type")?.as_deref() {
            Some("text") => {}
            Some(other) => {
                return Err(ApiError::field(
                    type_path,
                    other,
                    "text: other kinds of content are not implemented",
                )
                .of_kind(ErrorKind::UnsupportedParameter));
            }
            None => return Err(ApiError::missing(type_path, "text")),
        }
        let text_path = part.path("text");
        content.push_str(&part.string("text")?.ok_or_else(|| ApiError::missing(text_path, "a string"))?);
        part.finish(&["type", "text"])?;
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(messages: Value) -> Result<ChatRequest, ApiError> {
        ChatRequest::parse(json!({"model": "m", "messages": messages}))
    }

    #[test]
    fn texts_and_text_parts_are_read() {
        let request = parse(json!([
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": "c", "refusal": null, "tool_calls": null, "annotations": []},
        ]))
        .unwrap();
        let read: Vec<_> = request.messages.iter().map(|m| (m.role.name(), m.content.as_str())).collect();
        assert_eq!(read, [("system", "be brief"), ("user", "ab"), ("assistant", "c")]);
    }

    #[test]
    fn wrong_messages_are_refused_where_they_are_wrong() {
        for (messages, param) in [
            (json!([]), "messages"),
            (json!("hi"), "messages"),
            (json!(null), "messages"),
            (json!(["hi"]), "messages[0]"),
            (json!([{"content": "a"}]), "messages[0].role"),
            (json!([{"role": "tool", "content": "a"}]), "messages[0].role"),
            (json!([{"role": "user"}]), "messages[0].content"),
            (json!([{"role": "user", "content": 3}]), "messages[0].content"),
            (json!([{"role": "user", "content": "a", "name": "Ann"}]), "messages[0].name"),
            (json!([{"role": "user", "content": "a", "foo": 1}]), "messages[0].foo"),
            (json!([{"role": "user", "content": [{"type": "image_url"}]}]), "messages[0].content[0].type"),
            (json!([{"role": "user", "content": [{"type": "text"}]}]), "messages[0].content[0].text"),
            (json!([{"role": "assistant", "content": "a", "tool_calls": [{}]}]), "messages[0].tool_calls"),
        ] {
            assert_eq!(parse(messages).unwrap_err().param(), Some(param));
        }
    }

    #[test]
    fn the_two_names_of_the_limit_must_agree() {
        let body = |newer: u32, older: u32| json!({"model": "m", "messages": [{"role": "user", "content": "a"}], "max_tokens": older, "max_completion_tokens": newer});
        assert_eq!(ChatRequest::parse(body(5, 5)).unwrap().max_tokens, Some(5));
        assert_eq!(ChatRequest::parse(body(5, 6)).unwrap_err().param(), Some("max_tokens"));
    }
}
