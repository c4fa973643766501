//! The messages of a chat request, as turns of a conversation.

use std::collections::HashMap;

use espalier_model::chat::{ToolCall, Turn};
use serde_json::Value;

use crate::api_error::{ApiError, ErrorKind};
use crate::fields::Fields;
use crate::openai::tools::{expect_type, function_name};

/// Most messages in one request.
const MESSAGE_LIMIT: usize = 4096;
const ROLES: &str = "system, developer, user, assistant or tool";

/// Reads `messages`. A tool's message must answer a call of an earlier assistant message.
pub fn turns(fields: &mut Fields) -> Result<Vec<Turn>, ApiError> {
    let items = fields
        .list("messages")?
        .ok_or_else(|| ApiError::missing("messages", "a list of at least one message"))?;
    if items.is_empty() || items.len() > MESSAGE_LIMIT {
        let found = format!("{} messages", items.len());
        return Err(ApiError::field("messages", found, format!("1 to {MESSAGE_LIMIT} messages")));
    }
    let mut called = HashMap::new();
    let mut turns = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let turn = turn(Fields::of(format!("messages[{index}]"), item)?, &called)?;
        if let Turn::Assistant { tool_calls, .. } = &turn {
            called.extend(tool_calls.iter().map(|call| (call.id.clone(), call.name.clone())));
        }
        turns.push(turn);
    }
    Ok(turns)
}

/// One message; `called` has the names of the functions called so far, by the calls' ids.
fn turn(mut fields: Fields, called: &HashMap<String, String>) -> Result<Turn, ApiError> {
    let path = fields.path("role");
    let turn = match fields.string("role")?.as_deref() {
        Some("system") => Turn::System(required_content(&mut fields)?),
        Some("developer") => Turn::Developer(required_content(&mut fields)?),
        Some("user") => Turn::User(required_content(&mut fields)?),
        Some("assistant") => assistant(&mut fields)?,
        Some("tool") => tool_result(&mut fields, called)?,
        Some(other) => {
            return Err(ApiError::field(path, other, ROLES).of_kind(ErrorKind::UnsupportedParameter));
        }
        None => return Err(ApiError::missing(path, ROLES)),
    };
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
    fields.finish(&["role", "content", "tool_calls", "tool_call_id", "reasoning_content"])?;
    Ok(turn)
}

fn assistant(fields: &mut Fields) -> Result<Turn, ApiError> {
    let content = content(fields)?;
    let reasoning = fields.string("reasoning_content")?;
    let calls = fields.list("tool_calls")?.unwrap_or_default();
    let path = fields.path("tool_calls");
    let tool_calls: Vec<ToolCall> = calls
        .into_iter()
        .enumerate()
        .map(|(index, call)| tool_call(Fields::of(format!("{path}[{index}]"), call)?))
        .collect::<Result<_, _>>()?;
    if content.is_none() && tool_calls.is_empty() {
        return Err(ApiError::missing(fields.path("content"), "a string or a list of text parts"));
    }
    Ok(Turn::Assistant { content: content.unwrap_or_default(), reasoning, tool_calls })
}

fn tool_call(mut fields: Fields) -> Result<ToolCall, ApiError> {
    let id = fields.required_string("id", "the call's id")?;
    expect_type(&mut fields)?;
    let path = fields.path("function");
    let function = fields.take("function").ok_or_else(|| ApiError::missing(&path, "an object"))?;
    fields.finish(&["id", "type", "function"])?;
    let mut function = Fields::of(path, function)?;
    let name = function_name(&mut function)?;
    let path = function.path("arguments");
    let arguments =
        function.string("arguments")?.ok_or_else(|| ApiError::missing(path, "a string of JSON"))?;
    function.finish(&["name", "arguments"])?;
    Ok(ToolCall { id, name, arguments })
}

fn tool_result(fields: &mut Fields, called: &HashMap<String, String>) -> Result<Turn, ApiError> {
    let content = required_content(fields)?;
    let path = fields.path("tool_call_id");
    let call_id = fields.required_string("tool_call_id", "the id of a call")?;
    let Some(name) = called.get(&call_id).cloned() else {
        return Err(ApiError::field(path, call_id, "the id of a call of an earlier assistant message"));
    };
    // The older form of the message names the function again.
    let path = fields.path("name");
    if let Some(other) = fields.string("name")?.filter(|other| *other != name) {
        return Err(ApiError::field(path, other, format!("{name}, as in the call")));
    }
    Ok(Turn::Tool { name, call_id, content })
}

fn required_content(fields: &mut Fields) -> Result<String, ApiError> {
    let path = fields.path("content");
    content(fields)?.ok_or_else(|| ApiError::missing(path, "a string or a list of text parts"))
}

/// A text, or parts that are joined without a separator.
fn content(fields: &mut Fields) -> Result<Option<String>, ApiError> {
    let path = fields.path("content");
    let parts = match fields.take("content") {
        None => return Ok(None),
        Some(Value::String(text)) => return Ok(Some(text)),
        Some(Value::Array(parts)) if !parts.is_empty() => parts,
        Some(other) => return Err(ApiError::field(path, other, "a string or a list of text parts")),
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
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(messages: Value) -> Result<Vec<Turn>, ApiError> {
        turns(&mut Fields::of_body(json!({"messages": messages})).unwrap())
    }

    fn call(id: &str) -> Value {
        json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}})
    }

    #[test]
    fn texts_and_text_parts_are_read() {
        let turns = read(json!([
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": "c", "refusal": null, "tool_calls": null, "annotations": []},
        ]));
        let assistant = Turn::Assistant { content: "c".into(), reasoning: None, tool_calls: vec![] };
        assert_eq!(turns.unwrap(), [Turn::Developer("be brief".into()), Turn::User("ab".into()), assistant]);
    }

    #[test]
    fn calls_and_results_are_read() {
        let turns = read(json!([
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [call("c1")]},
            {"role": "tool", "tool_call_id": "c1", "name": "f", "content": "42"},
        ]))
        .unwrap();
        let tool_calls = vec![ToolCall { id: "c1".into(), name: "f".into(), arguments: "{}".into() }];
        let reasoning = Some("hm".to_owned());
        assert_eq!(turns[1], Turn::Assistant { content: String::new(), reasoning, tool_calls });
        assert_eq!(turns[2], Turn::Tool { name: "f".into(), call_id: "c1".into(), content: "42".into() });
    }

    #[test]
    fn wrong_messages_are_refused_where_they_are_wrong() {
        let calls = |calls: Value| json!([{"role": "assistant", "tool_calls": calls}]);
        for (messages, param) in [
            (json!([]), "messages"),
            (json!("hi"), "messages"),
            (json!(null), "messages"),
            (json!(["hi"]), "messages[0]"),
            (json!([{"content": "a"}]), "messages[0].role"),
            (json!([{"role": "function", "content": "a"}]), "messages[0].role"),
            (json!([{"role": "user"}]), "messages[0].content"),
            (json!([{"role": "assistant"}]), "messages[0].content"),
            (json!([{"role": "user", "content": 3}]), "messages[0].content"),
            (json!([{"role": "user", "content": "a", "name": "Ann"}]), "messages[0].name"),
            (json!([{"role": "user", "content": "a", "foo": 1}]), "messages[0].foo"),
            (json!([{"role": "user", "content": "a", "tool_calls": [{}]}]), "messages[0].tool_calls"),
            (json!([{"role": "user", "content": [{"type": "image_url"}]}]), "messages[0].content[0].type"),
            (json!([{"role": "user", "content": [{"type": "text"}]}]), "messages[0].content[0].text"),
            (json!([{"role": "tool", "content": "a"}]), "messages[0].tool_call_id"),
            (json!([{"role": "tool", "content": "a", "tool_call_id": "x"}]), "messages[0].tool_call_id"),
            (calls(json!([{}])), "messages[0].tool_calls[0].id"),
            (calls(json!([{"id": "x"}])), "messages[0].tool_calls[0].type"),
            (calls(json!([{"id": "x", "type": "function"}])), "messages[0].tool_calls[0].function"),
            (
                calls(json!([{"id": "x", "type": "function", "function": {"name": "f"}}])),
                "messages[0].tool_calls[0].function.arguments",
            ),
        ] {
            assert_eq!(read(messages.clone()).unwrap_err().param(), Some(param), "{messages}");
        }
    }
}
