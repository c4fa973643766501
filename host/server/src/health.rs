//! What an operator's machinery asks: alive, ready, metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use crate::api_error::ApiError;
use crate::application::Application;
use crate::metrics::{Names, Snapshot};
use crate::server::text;

/// Media type of the Prometheus text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /health`: the process answers.
pub(crate) async fn health() -> Json<Value> {
    Json(json!({"status": "alive", "version": env!("CARGO_PKG_VERSION")}))
}

/// `GET /ready`: requests are taken, or why not.
pub(crate) async fn ready(State(application): State<Arc<Application>>) -> (StatusCode, Json<Value>) {
    let reasons = application.reasons_not_ready();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"ready": reasons.is_empty(), "reasons": reasons})))
}

/// `GET /metrics`, or one of the two families with `?names=`.
pub(crate) async fn metrics(
    State(application): State<Arc<Application>>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let names = match query.as_deref().unwrap_or_default() {
        "" | "names=all" => Names::All,
        "names=espalier" => Names::Espalier,
        "names=vllm" => Names::Vllm,
        other => return Err(ApiError::field("query", other, "names=all, names=espalier or names=vllm")),
    };
    application
        .clone()
        .blocking(move || {
            let ready = application.reasons_not_ready().is_empty();
            let jobs = application.jobs().counts()?;
            let now = Snapshot {
                ready,
                loaded: application.registry(),
                jobs: &jobs,
                slots: &application.deployments().slots(),
                guests: application.deployments().metrics_of_guests(),
            };
            let body = application
                .metrics()
                .render(names, now)
                .map_err(|error| ApiError::internal("the metrics could not be written", &error))?;
            Ok(text(PROMETHEUS, body))
        })
        .await
}
