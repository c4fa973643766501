//! The models of this host as its endpoints use them: by the same way as a request from outside.
//!
//! What an endpoint asks for is written as a request of OpenAI's API and goes on as one: parsed and refused by the same rules,
//! routed, copied to a shadow, queued and counted with all others.

use std::sync::Arc;

use espalier_components::{
    Answer, Beginning, Role, ServedModels, ServedVariant, SessionPrompt, SessionRefusal, SessionRequest,
};
use serde_json::{Value, json};

use super::session::Session;
use crate::api_error::{ApiError, ErrorKind};
use crate::application::Application;
use crate::openai::chat_request::ChatRequest;
use crate::openai::completion_request::CompletionRequest;
use crate::openai::preparation::{copy_chat, copy_completion, start_chat, start_completion};
use crate::openai::shadow;

/// The models of an application.
pub(super) struct EngineModels(Arc<Application>);

impl EngineModels {
    pub(super) const fn new(application: Arc<Application>) -> Self {
        Self(application)
    }
}

impl ServedModels for EngineModels {
    fn variants(&self) -> Vec<ServedVariant> {
        let generations = self.0.registry().generations();
        generations
            .iter()
            .map(|generation| ServedVariant {
                model: generation.id().model.clone(),
                name: generation.id().variant.clone(),
                context_length: generation.engine().max_model_len(),
                accepts: generation.engine().accepts(),
            })
            .collect()
    }

    fn begin(&self, request: SessionRequest) -> Beginning {
        let application = Arc::clone(&self.0);
        Box::pin(async move {
            let session = begin(&application, request).await.map_err(refusal)?;
            Ok(Box::new(session) as Box<dyn Answer>)
        })
    }
}

async fn begin(application: &Arc<Application>, request: SessionRequest) -> Result<Session, ApiError> {
    application.refuse_if_draining()?;
    // JSON has no word for it, and it would look like nothing.
    if let Some(found) = request.temperature.filter(|found| !found.is_finite()) {
        return Err(ApiError::field("temperature", found.to_string(), "a number from 0 to 2"));
    }
    let body = body(&request);
    let asked = Arc::clone(application);
    let running = match request.prompt {
        SessionPrompt::Text(_) => {
            let request = Arc::new(CompletionRequest::parse(body)?);
            let started = Arc::clone(&request);
            let running = application.blocking(move || start_completion(&asked, &started)).await?;
            if let Some(copied) = running.copied() {
                shadow::cast(application, copied, move |generation| copy_completion(generation, &request));
            }
            running
        }
        SessionPrompt::Messages(_) => {
            let request = Arc::new(ChatRequest::parse(body)?);
            let started = Arc::clone(&request);
            let running = application.blocking(move || start_chat(&asked, &started)).await?;
            if let Some(copied) = running.copied() {
                shadow::cast(application, copied, move |generation| copy_chat(generation, &request));
            }
            running
        }
    };
    let id = running.generation.id();
    let address = format!("{}@{}", id.model, id.variant);
    let choice = running.choices.into_iter().next();
    let choice = choice.ok_or_else(|| ApiError::internal("a session began without an answer", &address))?;
    Ok(Session::new(address, choice))
}

/// The request as a client would have written it.
fn body(request: &SessionRequest) -> Value {
    let mut body = json!({"model": request.model, "max_tokens": request.max_tokens, "stream": true});
    match &request.prompt {
        SessionPrompt::Text(text) => body["prompt"] = json!(text),
        SessionPrompt::Messages(messages) => {
            let message = |(role, content): &(Role, String)| {
                let role = match role {
                    Role::System => "system",
                    Role::User => "user",
                    Role::Assistant => "assistant",
                };
                json!({"role": role, "content": content})
            };
            body["messages"] = messages.iter().map(message).collect();
        }
    }
    if let Some(temperature) = request.temperature {
        body["temperature"] = json!(temperature);
    }
    if let Some(seed) = request.seed {
        body["seed"] = json!(seed);
    }
    body
}

fn refusal(error: ApiError) -> SessionRefusal {
    let message = error.to_string();
    match error.kind() {
        ErrorKind::ModelNotFound => SessionRefusal::UnknownModel(message),
        ErrorKind::QueueFull | ErrorKind::Unavailable => SessionRefusal::Busy(message),
        ErrorKind::Internal => SessionRefusal::Failed(message),
        _ => SessionRefusal::Invalid(message),
    }
}
