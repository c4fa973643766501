//! What one route takes and answers.

use serde_json::{Map, Value, json};

use super::reference;
use crate::routes::{Operation as O, Route};

/// The operation object of a route.
pub(super) fn operation(route: &Route) -> Value {
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
                "router, scoring/NAME, metric/NAME or ext/NAME; by default its world's and name's.",
            ),
            (
                "expected_revision",
                json!({"type": "integer", "minimum": 0}),
                "Only if the slot is at this revision.",
            ),
            (
                "configuration",
                json!({"type": "string"}),
                "What the component is told, as a JSON object of texts: {\"weights\": \"original:9, small:1\"}.",
            ),
            (
                "granted_hosts",
                json!({"type": "string"}),
                "Where an endpoint may send requests: HOST or HOST:PORT, separated by commas.",
            ),
            ("label", json!({"type": "string"}), "What errors call it until it has said its name."),
            (
                "signature",
                json!({"type": "string"}),
                "Who vouches for it: the line that `espalier component sign` writes.",
            ),
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
        O::AdminCanary => "Canary",
        O::AdminPromote => "Promote",
        O::AdminRollback => "Rollback",
        O::AdminStartJob => "JobRequest",
        O::AdminStartRecipeRun => "StartRecipeRun",
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
        O::AdminAllJobEvents | O::AdminJobEvents | O::AdminRecipeRunEvents => {
            ("200", &[("text/event-stream", "Text")])
        }
        O::AdminLoadModel => ("201", &[("application/json", "Variant")]),
        O::AdminUnloadModel => ("200", &[("application/json", "Variant")]),
        O::AdminDeployComponent => ("201", &[("application/json", "Object")]),
        O::AdminComponentFile => ("200", &[("application/wasm", "Text")]),
        O::AdminInspectComponent => ("200", &[("application/json", "ComponentDetails")]),
        O::AdminRemoveComponent => ("200", &[("application/json", "Component")]),
        O::AdminActivate | O::AdminCanary | O::AdminPromote | O::AdminRollback => {
            ("200", &[("application/json", "Activation")])
        }
        O::AdminStartJob | O::AdminCancelJob => ("202", &[("application/json", "Job")]),
        O::AdminGetJob => ("200", &[("application/json", "Job")]),
        O::AdminListRecipeRuns => ("200", &[("application/json", "RecipeRunList")]),
        O::AdminStartRecipeRun | O::AdminCancelRecipeRun | O::AdminResumeRecipeRun => {
            ("202", &[("application/json", "RecipeRun")])
        }
        O::AdminGetRecipeRun => ("200", &[("application/json", "RecipeRun")]),
        O::AdminRecipeRunReport => {
            ("200", &[("text/html", "Text"), ("text/markdown", "Text"), ("application/json", "Object")])
        }
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
