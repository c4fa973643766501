//! `/openapi.json`: made from the table of routes and the tables of request fields.

mod admin_schemas;
mod openai_schemas;
mod operation;
mod recipe_schemas;

use axum::Json;
use serde_json::{Map, Value, json};

use crate::api_error::ErrorKind;
use crate::routes::ROUTES;
use operation::operation;

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

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

/// All schemas, by their names.
fn schemas() -> Value {
    let text = json!({"type": "string"});
    let codes: Vec<_> = ErrorKind::ALL.iter().map(|kind| kind.code()).collect();
    let own = json!({
        "Readiness": {"type": "object", "properties": {
            "ready": {"type": "boolean"}, "reasons": {"type": "array", "items": text},
        }},
        "Text": text,
        "Object": {"type": "object"},
        "Error": {
            "type": "object",
            "properties": {"error": {
                "type": "object",
                "properties": {
                    "message": text, "type": text, "param": {"type": ["string", "null"]}, "code": {"enum": codes},
                    "line": {"type": "integer", "description": "The line of a text of TOML that is at fault."},
                    "found": {}, "expected": {},
                },
                "required": ["message", "type", "param", "code"],
            }},
            "required": ["error"],
        },
    });
    let mut all = Map::new();
    for schemas in [openai_schemas::schemas(), admin_schemas::schemas(), recipe_schemas::schemas(), own] {
        if let Value::Object(schemas) = schemas {
            all.extend(schemas);
        }
    }
    Value::Object(all)
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
