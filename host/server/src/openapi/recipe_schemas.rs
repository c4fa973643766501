//! The schemas of recipes' runs.

use serde_json::{Value, json};

use super::reference;

/// The schemas.
pub(super) fn schemas() -> Value {
    let text = json!({"type": "string"});
    let count = json!({"type": "integer", "minimum": 0});
    json!({
        "StageProgress": {
            "type": "object",
            "description": "Where the run of a recipe is; done and total beside it count the steps of the activity.",
            "properties": {
                "number": count, "stages": count, "name": text, "cut": count, "cuts": count, "activity": text,
                "loss": {"type": "number"}, "tokens_per_second": {"type": "number"}, "seconds_left": {"type": "number"},
            },
        },
        "StartRecipeRun": {
            "type": "object",
            "properties": {
                "model": text, "variant": {"type": "string", "default": "original"},
                "recipe": {"type": "string", "description": "The name of a recipe that is part of the program; or toml."},
                "toml": {"type": "string", "description": "A recipe's text, instead of recipe."},
                "directory": {
                    "type": "string",
                    "description": "What paths in the recipe are relative to; by default the host's working directory.",
                },
                "calibration": {
                    "oneOf": [text, {"type": "array", "items": text}],
                    "description": "Texts to calibrate, to refit and to train on, instead of the recipe's.",
                },
                "data": {"type": "string", "description": "The text to measure on, instead of the recipe's."},
                "load_as": {"type": "string", "description": "Load the result as this variant of the model."},
            },
            "required": ["model"],
            "additionalProperties": false,
        },
        "RecipeRun": {"type": "object", "properties": {
            "id": count, "recipe": text, "recipe_sha256": text,
            "inputs_sha256": {"type": "string", "description": "Of the recipe with its texts."},
            "model": text, "variant": text, "path": text,
            "texts": {"type": "array", "items": {"type": "object", "properties": {"path": text, "sha256": text}}},
            "components": {"type": "array", "items": {"type": "object", "properties": {
                "slot": text, "component": text, "digest": text,
            }}},
            "load_as": {"type": ["string", "null"]},
            "state": {"enum": ["queued", "running", "succeeded", "failed", "cancelled"]},
            "phase": {"type": ["string", "null"]}, "done": count, "total": count,
            "stage": {"anyOf": [reference("StageProgress"), {"type": "null"}]},
            "error": {"type": ["string", "null"]},
            "result": {"anyOf": [reference("RunSummary"), {"type": "null"}]},
            "created_ms": count, "started_ms": {"type": ["integer", "null"]},
            "finished_ms": {"type": ["integer", "null"]},
            "directory": text, "reports": {"type": "array", "items": text},
            "toml": {"type": "string", "description": "The recipe's text, where one run is asked for."},
        }},
        "RecipeRunList": {"type": "object", "properties": {
            "runs": {"type": "array", "items": reference("RecipeRun")},
        }},
        "RunSummary": {"type": "object", "properties": {
            "status": {"enum": ["running", "finished", "stopped"]}, "inputs_sha256": text, "unpruned_sha256": text,
            "model": {
                "type": ["object", "null"],
                "description": "The last model that passed its gates.",
                "properties": {"path": text, "sha256": text},
            },
            "before": {"anyOf": [reference("Figures"), {"type": "null"}]},
            "after": {"anyOf": [reference("Figures"), {"type": "null"}]},
            "stages": {"type": "array", "items": {"type": "object", "properties": {
                "name": text, "passed": {"type": "boolean"},
                "figures": {"anyOf": [reference("Figures"), {"type": "null"}]},
            }}},
            "loaded": {"type": "object", "properties": {"variant": text, "generation": count}},
        }},
        "Figures": {"type": "object", "properties": {
            "parameters": count, "bytes": count,
            "measurements": {"type": "array", "items": {"type": "object", "properties": {
                "name": text, "value": {"type": "number"},
            }}},
        }},
    })
}
