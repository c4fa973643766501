//! Loaded models: listing, loading and unloading variants while the others serve.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Request, StatusCode};
use espalier_engine::{Generation, VariantSource};
use serde_json::{Value, json};

use crate::api_error::ApiError;
use crate::application::Application;
use crate::body;
use crate::fields::Fields;

/// The variant that a load without one means.
pub const DEFAULT_VARIANT: &str = "original";

/// `GET /admin/v1/models`.
pub async fn list(State(application): State<Arc<Application>>) -> Json<Value> {
    let generations = application.registry().generations();
    let mut models: Vec<(String, Vec<Value>)> = Vec::new();
    for generation in &generations {
        let model = &generation.id().model;
        let described = variant_json(&application, generation);
        match models.last_mut().filter(|(name, _)| name == model) {
            Some((_, variants)) => variants.push(described),
            None => models.push((model.clone(), vec![described])),
        }
    }
    let models: Vec<_> = models
        .into_iter()
        .map(|(name, variants)| {
            let default = variants.first().map(|variant| variant["variant"].clone());
            json!({"model": name, "default_variant": default, "variants": variants})
        })
        .collect();
    Json(json!({"models": models, "not_loaded": application.variants().not_loaded()}))
}

/// `POST /admin/v1/models`: `{model, variant?, path, draft?}`. Answers when the variant serves.
pub async fn load(
    State(application): State<Arc<Application>>,
    request: Request<Body>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    application.refuse_if_draining()?;
    let mut fields = Fields::of_body(body::read_json(request).await?)?;
    let model = fields.required_string("model", "the served name")?;
    let variant = fields.string("variant")?.unwrap_or_else(|| DEFAULT_VARIANT.to_owned());
    let path = PathBuf::from(
        fields.required_string("path", "the path of an HF directory or a GGUF file on the server")?,
    );
    let draft = fields.string("draft")?.map(PathBuf::from);
    fields.finish(&["model", "variant", "path", "draft"])?;
    let source = VariantSource { path, draft };
    application
        .clone()
        .blocking(move || {
            let generation = application.variants().load(&model, &variant, &source)?;
            Ok((StatusCode::CREATED, Json(variant_json(&application, &generation))))
        })
        .await
}

/// `DELETE /admin/v1/models/{model}/{variant}`.
pub async fn unload(
    State(application): State<Arc<Application>>,
    Path((model, variant)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    application
        .clone()
        .blocking(move || {
            let unloaded = application.variants().unload(&model, &variant)?;
            Ok(Json(match unloaded {
                Some(generation) => variant_json(&application, &generation),
                None => json!({"model": model, "variant": variant}),
            }))
        })
        .await
}

/// A variant with its shape and its load.
fn variant_json(application: &Application, generation: &Generation) -> Value {
    let (id, engine, model) = (generation.id(), generation.engine(), generation.model());
    let (status, spec) = (engine.status(), model.spec());
    let loaded = generation.loaded_at().duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "model": id.model,
        "variant": id.variant,
        "generation": id.number,
        "path": generation.path(),
        "draft": generation.source().draft,
        "loaded": loaded.as_secs(),
        "parameters": spec.parameters(),
        "weight_bytes": model.weight_bytes(),
        "layers": spec.layers.len(),
        "hidden_size": spec.hidden_size,
        "max_model_len": engine.max_model_len(),
        "chat": generation.chat_format().is_some(),
        "running": status.running,
        "waiting": status.waiting,
        "kv_used_blocks": status.kv_used_blocks,
        "kv_blocks": status.kv_blocks,
        "draining": status.draining,
        "milliseconds_per_token": application.metrics().milliseconds_per_token(id.number),
    })
}
