//! From a parsed request to running sequences: prompt text, variant, limits, submission.
//!
//! All of it blocks (a template runs, a tokenizer runs, the router component runs), so the handlers call it on a thread
//! that may block. Either every sequence of a request is accepted or none is: what was submitted before a refusal is
//! cancelled by dropping its stream.

use std::sync::Arc;

use espalier_engine::{EventStream, GenerateRequest, Generation, SamplingParams};
use espalier_model::ChatMessage;

use crate::api_error::{ApiError, ErrorKind};
use crate::application::Application;
use crate::model_address::ModelAddress;
use crate::openai::chat_request::{ChatRequest, Message};
use crate::openai::completion_request::{CompletionRequest, Prompt};
use crate::openai::sampling::{Delivery, Sampling};
use crate::routing::RequestOutline;

/// How often a request is routed again because the chosen generation was being replaced.
const ROUTING_ATTEMPTS: usize = 3;

/// Turns a request's prompts into a generation's tokens.
type Tokenize<'a> = dyn Fn(&Generation) -> Result<Vec<Vec<u32>>, ApiError> + 'a;

/// Sequences that run.
pub struct Running {
    /// The generation that runs them.
    pub generation: Arc<Generation>,
    /// One stream per prompt.
    pub streams: Vec<EventStream>,
    /// The prompts' texts, if they are to precede the completions.
    pub echoes: Vec<String>,
}

/// What the two endpoints have in common once their prompts are known.
struct Common<'a> {
    address: &'a ModelAddress,
    max_tokens: Option<usize>,
    sampling: Sampling,
    stop: &'a [String],
    delivery: Delivery,
    /// The name of the limit in the request, for errors about it.
    limit_field: &'static str,
    /// The name of the field that the prompt comes from.
    prompt_field: &'static str,
}

/// Starts a completion.
pub fn start_completion(application: &Application, request: &CompletionRequest) -> Result<Running, ApiError> {
    let common = Common {
        address: &request.address,
        max_tokens: Some(request.max_tokens),
        sampling: request.sampling,
        stop: &request.stop,
        delivery: request.delivery,
        limit_field: "max_tokens",
        prompt_field: "prompt",
    };
    let tokenize = |generation: &Generation| {
        let prompts: &[Prompt] = &request.prompts;
        prompts
            .iter()
            .enumerate()
            .map(|(index, prompt)| tokens_of(generation, index, prompts.len(), prompt))
            .collect()
    };
    let mut running = start(application, &common, &tokenize)?;
    if request.echo {
        running.echoes = request
            .prompts
            .iter()
            .map(|prompt| match prompt {
                Prompt::Text(text) => text.clone(),
                Prompt::Tokens(ids) => running.generation.tokenizer().decode(ids, false),
            })
            .collect();
    }
    Ok(running)
}

/// Starts a chat answer.
pub fn start_chat(application: &Application, request: &ChatRequest) -> Result<Running, ApiError> {
    let common = Common {
        address: &request.address,
        max_tokens: request.max_tokens,
        sampling: request.sampling,
        stop: &request.stop,
        delivery: request.delivery,
        limit_field: "max_completion_tokens",
        prompt_field: "messages",
    };
    let tokenize = |generation: &Generation| Ok(vec![chat_tokens(generation, &request.messages)?]);
    start(application, &common, &tokenize)
}

fn start(
    application: &Application,
    common: &Common<'_>,
    tokenize: &Tokenize<'_>,
) -> Result<Running, ApiError> {
    for _ in 0..ROUTING_ATTEMPTS {
        let default = application.default_generation(common.address)?;
        let mut prompts = tokenize(&default)?;
        let outline = RequestOutline {
            prompt_tokens: prompts.iter().map(Vec::len).sum(),
            max_tokens: common.max_tokens.unwrap_or_else(|| default.engine().max_model_len()),
            streaming: common.delivery != Delivery::Whole,
        };
        let generation = application.choose(common.address, default.clone(), outline)?;
        if !Arc::ptr_eq(&default, &generation) {
            // Variants of one model usually share a tokenizer; nothing says that they must.
            prompts = tokenize(&generation)?;
        }
        check_lengths(common, &generation, &prompts)?;
        match submit(common, &generation, prompts) {
            Ok(streams) => return Ok(Running { generation, streams, echoes: Vec::new() }),
            // The generation was replaced since it was chosen: its successor is in place already.
            Err(espalier_engine::EngineError::Draining { .. }) if !application.is_draining() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::new(ErrorKind::Unavailable, format!("model '{}' is being replaced", common.address.model))
        .retry_after(1))
}

fn submit(
    common: &Common<'_>,
    generation: &Generation,
    prompts: Vec<Vec<u32>>,
) -> Result<Vec<EventStream>, espalier_engine::EngineError> {
    let Sampling { temperature, top_p, seed } = common.sampling;
    let sampling = SamplingParams::new(temperature, top_p, seed)?;
    let requests = prompts
        .into_iter()
        .map(|prompt| GenerateRequest::new(prompt, common.max_tokens, sampling.clone(), common.stop.to_vec()))
        .collect::<Result<Vec<_>, _>>()?;
    requests.into_iter().map(|request| generation.engine().submit(request)).collect()
}

/// Prompt and completion must fit: a completion that is cut shorter than asked for would be a silent change.
fn check_lengths(common: &Common<'_>, generation: &Generation, prompts: &[Vec<u32>]) -> Result<(), ApiError> {
    let limit = generation.engine().max_model_len();
    for prompt in prompts {
        let length = prompt.len();
        if length == 0 {
            return Err(ApiError::field(common.prompt_field, "0 tokens", "at least 1 token"));
        }
        if length >= limit {
            let message = format!(
                "{}: found {length} tokens, expected fewer than {limit}, the context length of {}",
                common.prompt_field,
                generation.id()
            );
            return Err(ApiError::new(ErrorKind::ContextLengthExceeded, message)
                .at(common.prompt_field)
                .found(length)
                .expected(limit));
        }
        if let Some(asked) = common.max_tokens.filter(|asked| asked.saturating_add(length) > limit) {
            let message = format!(
                "{}: found {asked}, expected at most {}, since the prompt has {length} tokens and the context {limit}",
                common.limit_field,
                limit - length
            );
            return Err(ApiError::new(ErrorKind::ContextLengthExceeded, message)
                .at(common.limit_field)
                .found(asked)
                .expected(limit - length));
        }
    }
    Ok(())
}

fn tokens_of(
    generation: &Generation,
    index: usize,
    count: usize,
    prompt: &Prompt,
) -> Result<Vec<u32>, ApiError> {
    match prompt {
        Prompt::Text(text) => generation
            .tokenizer()
            .encode(text, true)
            .map_err(|error| ApiError::new(ErrorKind::InvalidValue, error.to_string()).at("prompt")),
        Prompt::Tokens(ids) => {
            let size = generation.model().spec().vocab_size;
            match ids.iter().position(|id| *id as usize >= size) {
                None => Ok(ids.clone()),
                Some(at) => {
                    let list = if count > 1 { format!("prompt[{index}]") } else { "prompt".to_owned() };
                    let found = ids.get(at).copied().unwrap_or_default();
                    Err(ApiError::field(
                        format!("{list}[{at}]"),
                        found,
                        format!("a token id below {size}, the size of the vocabulary"),
                    ))
                }
            }
        }
    }
}

fn chat_tokens(generation: &Generation, messages: &[Message]) -> Result<Vec<u32>, ApiError> {
    let Some(template) = generation.chat_template() else {
        let message = format!("{} has no chat template, so it answers /v1/completions only", generation.id());
        return Err(ApiError::new(ErrorKind::Unprocessable, message).at("model"));
    };
    let messages: Vec<_> = messages
        .iter()
        .map(|message| ChatMessage { role: message.role.name().to_owned(), content: message.content.clone() })
        .collect();
    let refused = |error: espalier_model::ModelError| {
        ApiError::new(ErrorKind::InvalidValue, error.to_string()).at("messages")
    };
    let text = template.render(&messages, true).map_err(refused)?;
    generation.tokenizer().encode(&text, true).map_err(refused)
}
