//! `/openapi.json`: made from the table of routes and the tables of request fields.

use axum::Json;
use serde_json::{Map, Value, json};

use crate::api_error::ErrorKind;
use crate::openai::request_field::{CHAT_FIELDS, COMPLETION_FIELDS, RequestField, Support};
use crate::routes::{Operation as O, ROUTES, Route};

/// `GET /openapi.json`.
pub async fn serve() -> Json<Value> {
    Json(document())
}

/// The whole document.
#[must_use]
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(route.method.lower().to_owned(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Espalier",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Serving, pruning and measuring language models. Paths under /admin answer on the admin \
                            listener only, everything else on both.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [
            {"url": "http://127.0.0.1:8000", "description": "--listen"},
            {"url": "http://127.0.0.1:8001", "description": "--admin-listen"},
        ],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {"adminToken": {"type": "http", "scheme": "bearer"}},
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut operation = Map::new();
    operation.insert("operationId".into(), json!(route.id));
    operation.insert("summary".into(), json!(route.summary));
    let tag = if route.is_admin() {
        "admin"
    } else if route.path.starts_with("/v1") {
        "openai"
    } else {
        "operation"
    };
    operation.insert("tags".into(), json!([tag]));
    let parameters = parameters(route);
    if !parameters.is_empty() {
        operation.insert("parameters".into(), Value::Array(parameters));
    }
    if let Some(body) = request_body(route.operation) {
        operation.insert("requestBody".into(), body);
    }
    operation.insert("responses".into(), responses(route));
    if route.is_admin() {
        // Without a token the listener is on loopback and asks for none.
        operation.insert("security".into(), json!([{"adminToken": []}, {}]));
    }
    Value::Object(operation)
}

fn parameters(route: &Route) -> Vec<Value> {
    let mut parameters: Vec<_> = route
        .path
        .split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| {
            let schema = if name == "id" { json!({"type": "integer"}) } else { json!({"type": "string"}) };
            json!({"name": name, "in": "path", "required": true, "schema": schema})
        })
        .collect();
    let query: &[(&str, Value, &str)] = match route.operation {
        O::Metrics => {
            &[("names", json!({"enum": ["all", "espalier", "vllm"]}), "Which families; all by default.")]
        }
        O::AdminDeployComponent => &[
            ("activate", json!({"type": "boolean", "default": true}), "Whether to activate it at once."),
            (
                "slot",
                json!({"type": "string"}),
                "router, scoring/NAME or metric/NAME; by default its world's and name's.",
            ),
            (
                "expected_revision",
                json!({"type": "integer", "minimum": 0}),
                "Only if the slot is at this revision.",
            ),
            ("label", json!({"type": "string"}), "What errors call it until it has said its name."),
        ],
        _ => &[],
    };
    parameters.extend(query.iter().map(|(name, schema, description)| {
        json!({"name": name, "in": "query", "required": false, "schema": schema, "description": description})
    }));
    parameters
}

fn request_body(operation: O) -> Option<Value> {
    let schema = match operation {
        O::CreateCompletion => "CompletionRequest",
        O::CreateChatCompletion => "ChatCompletionRequest",
        O::AdminLoadModel => "LoadModel",
        O::AdminActivate => "Activate",
        O::AdminRollback => "Rollback",
        O::AdminStartJob => "JobRequest",
        O::AdminDeployComponent => {
            return Some(json!({
                "required": true,
                "content": {"application/wasm": {"schema": {"type": "string", "format": "binary"}}},
            }));
        }
        _ => return None,
    };
    Some(json!({"required": true, "content": {"application/json": {"schema": reference(schema)}}}))
}

fn responses(route: &Route) -> Value {
    let (status, media_types): (&str, &[(&str, &str)]) = match route.operation {
        O::UserInterface => ("200", &[("text/html", "Text")]),
        O::UserInterfaceFile => ("200", &[("text/javascript", "Text"), ("text/css", "Text")]),
        O::Icon => ("200", &[("image/svg+xml", "Text")]),
        O::Metrics => ("200", &[("text/plain", "Text")]),
        O::CreateCompletion => ("200", &[("application/json", "Completion"), ("text/event-stream", "Text")]),
        O::CreateChatCompletion => {
            ("200", &[("application/json", "ChatCompletion"), ("text/event-stream", "Text")])
        }
        O::ListModels => ("200", &[("application/json", "ModelList")]),
        O::RetrieveModel => ("200", &[("application/json", "Model")]),
        O::Ready => ("200", &[("application/json", "Readiness")]),
        O::AdminAllJobEvents | O::AdminJobEvents => ("200", &[("text/event-stream", "Text")]),
        O::AdminLoadModel => ("201", &[("application/json", "Variant")]),
        O::AdminUnloadModel => ("200", &[("application/json", "Variant")]),
        O::AdminDeployComponent => ("201", &[("application/json", "Object")]),
        O::AdminInspectComponent | O::AdminRemoveComponent => ("200", &[("application/json", "Component")]),
        O::AdminActivate | O::AdminRollback => ("200", &[("application/json", "Activation")]),
        O::AdminStartJob | O::AdminCancelJob => ("202", &[("application/json", "Job")]),
        O::AdminGetJob => ("200", &[("application/json", "Job")]),
        _ => ("200", &[("application/json", "Object")]),
    };
    let content: Map<String, Value> = media_types
        .iter()
        .map(|(media_type, schema)| ((*media_type).to_owned(), json!({"schema": reference(schema)})))
        .collect();
    let mut responses = Map::new();
    responses.insert(status.to_owned(), json!({"description": "The answer.", "content": content}));
    if route.operation == O::AdminDeployComponent {
        responses.insert(
            "200".to_owned(),
            json!({"description": "It was deployed before; nothing was stored.", "content": content}),
        );
    }
    if route.operation == O::Ready {
        responses.insert(
            "503".to_owned(),
            json!({"description": "Not ready, with the reasons.", "content": content}),
        );
    }
    responses.insert(
        "default".to_owned(),
        json!({"description": "An error.", "content": {"application/json": {"schema": reference("Error")}}}),
    );
    Value::Object(responses)
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
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

fn schemas() -> Value {
    let text = json!({"type": "string"});
    let count = json!({"type": "integer", "minimum": 0});
    let codes: Vec<_> = ErrorKind::ALL.iter().map(|kind| kind.code()).collect();
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
                        "strict": {"enum": [false, null]},
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
        "Readiness": {"type": "object", "properties": {
            "ready": {"type": "boolean"}, "reasons": {"type": "array", "items": text},
        }},
        "LoadModel": {
            "type": "object",
            "properties": {"model": text, "variant": {"type": "string", "default": "original"}, "path": text, "draft": text},
            "required": ["model", "path"],
            "additionalProperties": false,
        },
        "Variant": {"type": "object", "properties": {
            "model": text, "variant": text, "generation": count, "path": text, "draft": {"type": ["string", "null"]}, "loaded": count, "parameters": count,
            "weight_bytes": count, "layers": count, "hidden_size": count, "max_model_len": count,
            "chat": {"type": "boolean"}, "running": count, "waiting": count, "kv_used_blocks": count,
            "kv_blocks": count, "draining": {"type": "boolean"},
            "milliseconds_per_token": {"type": ["number", "null"]},
        }},
        "Component": {"type": "object", "properties": {
            "name": text, "version": text, "summary": text,
            "world": {"enum": ["scoring-policy", "request-router", "evaluation-metric"]},
            "digest": text, "size": count, "created": count, "active_in": {"type": "array", "items": text},
        }},
        "Activation": {"type": "object", "properties": {
            "slot": text, "revision": count, "digest": text, "component": text, "activated": count,
        }},
        "Activate": {
            "type": "object",
            "properties": {"slot": text, "component": text, "expected_revision": count},
            "required": ["slot", "component"],
            "additionalProperties": false,
        },
        "Rollback": {
            "type": "object",
            "properties": {"slot": text, "to_revision": count, "expected_revision": count},
            "required": ["slot"],
            "additionalProperties": false,
        },
        "JobRequest": {"oneOf": [reference("PruneJob"), reference("EvaluateJob")]},
        "PruneJob": {
            "type": "object",
            "properties": {
                "kind": {"const": "prune"}, "model": text, "variant": {"type": "string", "default": "original"},
                "policy": text,
                "units": {
                    "type": "array", "minItems": 1,
                    "items": {"enum": ["layer", "head", "kv-group", "ffn-channel", "expert", "expert-channel"]},
                },
                "keep": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
                "counts": {
                    "type": "object",
                    "description": "How many units of a kind stay, whatever the share: {\"expert\": 24}.",
                },
                "calibration": {"oneOf": [text, {"type": "array", "items": text, "minItems": 1}]},
                "windows": count, "window_tokens": count, "seed": count,
                "constraints": {"type": "object"},
                "dtype": {"enum": ["source", "bf16", "f16", "f32"], "default": "source"}, "out": text,
                "load_as": {"type": "string", "description": "Load the result as this variant of the model."},
            },
            "required": ["kind", "model", "policy", "units", "keep", "calibration", "out"],
            "additionalProperties": false,
        },
        "EvaluateJob": {
            "type": "object",
            "properties": {
                "kind": {"const": "evaluate"}, "model": text, "variant": {"type": "string", "default": "original"},
                "baseline": text, "data": text, "metrics": {"type": "array", "items": text}, "max_tokens": count,
            },
            "required": ["kind", "model", "data", "metrics"],
            "additionalProperties": false,
        },
        "Job": {"type": "object", "properties": {
            "id": count, "request": {"type": "object"},
            "state": {"enum": ["queued", "running", "succeeded", "failed", "cancelled"]},
            "phase": {"type": ["string", "null"]}, "done": count, "total": count,
            "error": {"type": ["string", "null"]}, "result": {},
            "created_ms": count, "started_ms": {"type": ["integer", "null"]},
            "finished_ms": {"type": ["integer", "null"]},
        }},
        "Text": text,
        "Object": {"type": "object"},
        "Error": {
            "type": "object",
            "properties": {"error": {
                "type": "object",
                "properties": {
                    "message": text, "type": text, "param": {"type": ["string", "null"]}, "code": {"enum": codes},
                    "found": {}, "expected": {},
                },
                "required": ["message", "type", "param", "code"],
            }},
            "required": ["error"],
        },
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_has_a_schema() {
        let document = document();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let text = document.to_string();
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
    }
}
