//! The schemas of OpenAI's requests and answers.

use serde_json::{Map, Value, json};

use super::reference;
use crate::openai::chat_fields::CHAT_FIELDS;
use crate::openai::completion_fields::COMPLETION_FIELDS;
use crate::openai::request_field::{RequestField, Support};

/// The schemas.
pub(super) fn schemas() -> Value {
    let text = json!({"type": "string"});
    let count = json!({"type": "integer", "minimum": 0});
    let espalier = json!({
        "type": "object",
        "properties": {"variant": text, "generation": count},
        "required": ["variant", "generation"],
    });
    let answer = |choice: Value| {
        json!({
            "type": "object",
            "properties": {
                "id": text, "object": text, "created": count, "model": text,
                "choices": {"type": "array", "items": choice},
                "usage": reference("Usage"),
                "system_fingerprint": text,
                "espalier": espalier,
            },
            "required": ["id", "object", "created", "model", "choices", "usage", "espalier"],
        })
    };
    let finish = json!({"enum": ["stop", "length"]});
    json!({
        "CompletionRequest": request_schema(COMPLETION_FIELDS, &["model", "prompt"]),
        "ChatCompletionRequest": request_schema(CHAT_FIELDS, &["model", "messages"]),
        "ChatMessage": {
            "type": "object",
            "properties": {
                "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
                "content": {"oneOf": [text, {"type": "array", "items": {
                    "type": "object",
                    "properties": {"type": {"const": "text"}, "text": text},
                    "required": ["type", "text"],
                    "additionalProperties": false,
                }, "minItems": 1}, {"type": "null"}], "description": "Only an assistant message with calls has none."},
                "reasoning_content": {"type": ["string", "null"]},
                "tool_calls": {"anyOf": [{"type": "array", "items": reference("ToolCall")}, {"type": "null"}]},
                "tool_call_id": {"type": "string", "description": "Of a tool message: the call that it answers."},
            },
            "required": ["role"],
        },
        "Tool": {
            "type": "object",
            "properties": {
                "type": {"const": "function"},
                "function": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
                        "description": text,
                        "parameters": {"type": "object", "description": "A JSON schema."},
                        "strict": {"type": ["boolean", "null"]},
                    },
                    "required": ["name"],
                    "additionalProperties": false,
                },
            },
            "required": ["type", "function"],
            "additionalProperties": false,
        },
        "ToolCall": {
            "type": "object",
            "properties": {
                "id": text,
                "type": {"const": "function"},
                "function": {
                    "type": "object",
                    "properties": {"name": text, "arguments": {"type": "string", "description": "JSON, if the model keeps to it."}},
                    "required": ["name", "arguments"],
                },
            },
            "required": ["id", "type", "function"],
        },
        "Completion": answer(json!({
            "type": "object",
            "properties": {"index": count, "text": text, "logprobs": completion_logprobs(), "finish_reason": finish},
        })),
        "ChatCompletion": answer(json!({
            "type": "object",
            "properties": {
                "index": count,
                "message": {"type": "object", "properties": {
                    "role": {"const": "assistant"}, "content": {"type": ["string", "null"]}, "refusal": {"type": "null"},
                    "reasoning_content": text, "tool_calls": {"type": "array", "items": reference("ToolCall")},
                }},
                "logprobs": chat_logprobs(),
                "finish_reason": {"enum": ["stop", "length", "tool_calls"]},
            },
        })),
        "Usage": {
            "type": "object",
            "properties": {
                "prompt_tokens": count, "completion_tokens": count, "total_tokens": count,
                "prompt_tokens_details": {"type": "object", "properties": {"cached_tokens": count}},
                "completion_tokens_details": {"type": "object", "properties": {"reasoning_tokens": count}},
            },
            "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
        },
        "Model": {"type": "object", "properties": {
            "id": text, "object": {"const": "model"}, "created": count, "owned_by": text, "max_model_len": count,
            "espalier": {"type": "object"},
        }},
        "ModelList": {"type": "object", "properties": {
            "object": {"const": "list"}, "data": {"type": "array", "items": reference("Model")},
        }},
    })
}

fn completion_logprobs() -> Value {
    let list = |items: Value| json!({"type": "array", "items": items});
    json!({
        "type": ["object", "null"],
        "properties": {
            "tokens": list(json!({"type": "string"})),
            "token_logprobs": list(json!({"type": ["number", "null"]})),
            "top_logprobs": list(json!({"type": ["object", "null"], "additionalProperties": {"type": "number"}})),
            "text_offset": list(json!({"type": "integer", "minimum": 0})),
        },
    })
}

fn chat_logprobs() -> Value {
    let mut token = json!({
        "token": {"type": "string"},
        "logprob": {"type": "number"},
        "bytes": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}},
    });
    let alternatives = json!({"type": "array", "items": {"type": "object", "properties": token}});
    if let Value::Object(token) = &mut token {
        token.insert("top_logprobs".into(), alternatives);
    }
    let content = json!({"type": "array", "items": {"type": "object", "properties": token}});
    json!({"type": ["object", "null"], "properties": {"content": content, "refusal": {"type": "null"}}})
}

/// A request's schema: every field that is not refused, and no others.
fn request_schema(table: &[RequestField], required: &[&str]) -> Value {
    let mut properties = Map::new();
    for field in table.iter().filter(|field| field.support != Support::Refused) {
        let schema = serde_json::from_str::<Value>(field.schema).unwrap_or_else(|_| json!({}));
        let mut described = if required.contains(&field.name) {
            schema
        } else {
            // `null` is the same as leaving the field out.
            json!({"anyOf": [schema, {"type": "null"}]})
        };
        if let (Some(described), false) = (described.as_object_mut(), field.note.is_empty()) {
            described.insert("description".into(), json!(field.note));
        }
        properties.insert(field.name.to_owned(), described);
    }
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}
