//! The schemas of the admin API's requests and answers.

use serde_json::{Value, json};

use super::reference;

/// The schemas.
pub(super) fn schemas() -> Value {
    let text = json!({"type": "string"});
    let count = json!({"type": "integer", "minimum": 0});
    let configuration = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let hosts = json!({
        "type": "array", "items": {"type": "string"},
        "description": "Where an endpoint may send requests: HOST or HOST:PORT.",
    });
    json!({
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
            "world": {"enum": ["scoring-policy", "request-router", "evaluation-metric", "http-endpoint"]},
            "digest": text, "size": count, "created": count,
            "signature": {"type": ["string", "null"]}, "signer": {"type": ["string", "null"]},
            "active_in": {"type": "array", "items": text},
            "places": {"type": "array", "items": {"type": "object", "properties": {
                "slot": text, "canary": {"type": "boolean"}, "weight": {"type": "number"},
                "configuration": configuration,
                "granted_hosts": hosts,
            }}},
        }},
        "ComponentDetails": {"allOf": [reference("Component"), {"type": "object", "properties": {
            "limits": {"type": "object", "additionalProperties": {"type": "number"}},
            "grants": {"type": "array", "items": text},
        }}]},
        "Activation": {"type": "object", "properties": {
            "slot": text, "revision": count, "digest": text, "component": text, "activated": count,
            "configuration": configuration, "granted_hosts": hosts,
            "canary": {"type": "object", "properties": {
                "digest": text, "component": text, "configuration": configuration, "granted_hosts": hosts,
                "weight": {"type": "number"},
            }},
        }},
        "Activate": {
            "type": "object",
            "properties": {
                "slot": text, "component": text, "configuration": configuration, "granted_hosts": hosts,
                "expected_revision": count,
            },
            "required": ["slot", "component"],
            "additionalProperties": false,
        },
        "Canary": {
            "type": "object",
            "properties": {
                "component": text, "weight": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
                "slot": text, "configuration": configuration, "granted_hosts": hosts,
                "expected_revision": count,
            },
            "required": ["component", "weight"],
            "additionalProperties": false,
        },
        "Promote": {
            "type": "object",
            "properties": {"slot": text, "expected_revision": count},
            "required": ["slot"],
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
                "refit": {
                    "type": "object",
                    "description": "Fit the projections behind what goes anew, on the calibration text.",
                    "properties": {
                        "ridge": {"type": "number", "exclusiveMinimum": 0, "default": 0.01},
                        "expert_mean": {"type": "boolean", "default": false},
                        "bias_only": {"type": "boolean", "default": false},
                    },
                    "additionalProperties": false,
                },
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
            "phase": {"type": ["string", "null"]}, "done": count, "total": count, "stage": reference("StageProgress"),
            "error": {"type": ["string", "null"]}, "result": {},
            "created_ms": count, "started_ms": {"type": ["integer", "null"]},
            "finished_ms": {"type": ["integer", "null"]},
        }},
    })
}
