//! OpenAI's API: models, completions, chat completions.
//!
//! A request is parsed into a type that holds only what this server does ([`completion_request`], [`chat_request`]),
//! becomes running sequences ([`preparation`]), kept to a grammar if the request wants that ([`output_constraint`],
//! [`answer_grammar`]), whose events are read into pieces ([`choice`], [`delta`]) that are answered whole ([`selection`]) or
//! as a stream ([`answer`], [`frames`]). Where a router wants that, another variant gets a copy ([`shadow`]).

pub mod answer;
pub mod answer_grammar;
pub mod chat_fields;
pub mod chat_request;
pub mod choice;
pub mod compatibility_page;
pub mod completion_fields;
pub mod completion_request;
pub mod delta;
pub mod frames;
pub mod logprobs;
pub mod message;
pub mod output_constraint;
pub mod preference;
pub mod preparation;
pub mod request_field;
pub mod sampling;
pub mod scheduling;
pub mod score_ledger;
pub mod selection;
pub mod shadow;
mod shared_fields;
pub mod tools;

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::Request;
use axum::response::{IntoResponse as _, Response};
use espalier_engine::Generation;
use serde_json::{Value, json};

use crate::api_error::ApiError;
use crate::application::Application;
use crate::model_address::ModelAddress;
use crate::{body, event_stream};
use answer::{Answer, Shape};
use chat_request::ChatRequest;
use completion_request::CompletionRequest;
use delta::ChoiceUsage;
use frames::Frames;
use preparation::{Running, copy_chat, copy_completion, start_chat, start_completion};
use sampling::Delivery;
use selection::{Selection, WholeChoice};

/// `POST /v1/completions`.
pub async fn create_completion(
    State(application): State<Arc<Application>>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let request = Arc::new(CompletionRequest::parse(body::read_json(request).await?)?);
    let (delivery, selection) = (request.delivery, request.selection);
    let asked = (Arc::clone(&application), Arc::clone(&request));
    let running = application.blocking(move || start_completion(&asked.0, &asked.1)).await?;
    if let Some(copied) = running.copied() {
        shadow::cast(&application, copied, move |generation| copy_completion(generation, &request));
    }
    respond(Shape::Completion, delivery, selection, running).await
}

/// `POST /v1/chat/completions`.
pub async fn create_chat_completion(
    State(application): State<Arc<Application>>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let request = Arc::new(ChatRequest::parse(body::read_json(request).await?)?);
    let (delivery, selection) = (request.delivery, Selection::all(request.choices));
    let asked = (Arc::clone(&application), Arc::clone(&request));
    let running = application.blocking(move || start_chat(&asked.0, &asked.1)).await?;
    if let Some(copied) = running.copied() {
        shadow::cast(&application, copied, move |generation| copy_chat(generation, &request));
    }
    respond(Shape::Chat, delivery, selection, running).await
}

async fn respond(
    shape: Shape,
    delivery: Delivery,
    selection: Selection,
    running: Running,
) -> Result<Response, ApiError> {
    let Running { generation, choices, .. } = running;
    let answer = Answer::new(shape, generation.id().clone());
    let mut response = match delivery {
        Delivery::Stream { include_usage } => {
            event_stream::response(Frames::new(answer.clone(), include_usage, choices))
        }
        Delivery::Whole => {
            let mut read = Vec::with_capacity(choices.len());
            for choice in choices {
                read.push(WholeChoice::read(choice).await?);
            }
            let mut total = ChoiceUsage::default();
            for choice in &read {
                total += choice.usage;
            }
            let kept = selection.best(read).into_iter().enumerate();
            let whole = kept.map(|(index, choice)| answer.choice(index, &choice.deltas)).collect();
            Json(answer.whole(whole, total)).into_response()
        }
    };
    answer.sign_headers(&mut response);
    Ok(response)
}

/// `GET /v1/models`: each model by its name, then each of its variants by its address.
pub async fn list_models(State(application): State<Arc<Application>>) -> Json<Value> {
    let generations = application.registry().generations();
    let mut data = Vec::new();
    let mut previous = None;
    for generation in &generations {
        let model = generation.id().model.as_str();
        if previous != Some(model) {
            data.push(model_json(model, generation));
            previous = Some(model);
        }
        data.push(variant_json(generation));
    }
    Json(json!({"object": "list", "data": data}))
}

/// `GET /v1/models/{model}`.
pub async fn retrieve_model(
    State(application): State<Arc<Application>>,
    Path(address): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let address: ModelAddress = address
        .parse()
        .map_err(|_| ApiError::field("model", address, "NAME or NAME@VARIANT as listed by /v1/models"))?;
    let generation = application.default_generation(&address)?;
    Ok(Json(match address.variant {
        Some(_) => variant_json(&generation),
        None => model_json(&address.model, &generation),
    }))
}

fn model_json(model: &str, default: &Generation) -> Value {
    entry(model.to_owned(), default, json!({"default_variant": default.id().variant}))
}

fn variant_json(generation: &Generation) -> Value {
    let id = generation.id();
    entry(
        format!("{}@{}", id.model, id.variant),
        generation,
        json!({"variant": id.variant, "generation": id.number}),
    )
}

fn entry(id: String, generation: &Generation, espalier: Value) -> Value {
    let loaded = generation.loaded_at().duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "id": id,
        "object": "model",
        "created": loaded.as_secs(),
        "owned_by": "espalier",
        "max_model_len": generation.engine().max_model_len(),
        "espalier": espalier,
    })
}
