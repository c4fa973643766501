//! From a parsed request to running sequences: prompt text, variant, limits, grammar, submission.
//!
//! All of it blocks (a template runs, a tokenizer runs, the router component runs), so the handlers call it on a thread
//! that may block. Either every sequence of a request is accepted or none is: what was submitted before a refusal is
//! cancelled by dropping its stream.

use std::sync::Arc;

use espalier_engine::{Constraint, EngineError, GenerateRequest, Generation, SamplingParams};
use espalier_model::chat::{AnswerEvent, AnswerParser, Conversation, Turn};

use crate::api_error::{ApiError, ErrorKind};
use crate::application::Application;
use crate::model_address::ModelAddress;
use crate::openai::answer_grammar::AnswerGrammar;
use crate::openai::chat_request::ChatRequest;
use crate::openai::choice::ChoiceReader;
use crate::openai::completion_request::{CompletionRequest, Prompt};
use crate::openai::delta::Delta;
use crate::openai::frames::Choice;
use crate::openai::logprobs::{EchoedPrompt, LogprobReader};
use crate::openai::preference::Preference;
use crate::openai::sampling::Delivery;
use crate::openai::scheduling::Scheduling;
use crate::openai::shadow::Copied;
use crate::openai::tools::ToolUse;
use crate::routing::{RequestOutline, Route};

/// How often a request is routed again because the chosen generations were being replaced.
const ROUTING_ATTEMPTS: usize = 3;

/// Turns a request into what a generation is to do.
type Prepare<'a> = dyn Fn(&Generation) -> Result<Task, ApiError> + 'a;

/// Prompts, and what their answers are kept to.
struct Task {
    prompts: Vec<Prepared>,
    grammar: Option<AnswerGrammar>,
}

/// A prompt, and what reads its answer.
struct Prepared {
    tokens: Vec<u32>,
    parser: AnswerParser,
    opening: Vec<AnswerEvent>,
    /// Its text, if that precedes the completion.
    echo: Option<String>,
}

/// Sequences that run.
pub struct Running {
    /// The generation that runs them.
    pub generation: Arc<Generation>,
    /// Those of the first prompt, then those of the next.
    pub choices: Vec<Choice>,
    /// The generation that gets a copy.
    pub shadow: Option<Arc<Generation>>,
}

impl Running {
    /// What a copy of it is made of, if somebody gets one.
    #[must_use]
    pub fn copied(&self) -> Option<Copied> {
        Some(Copied {
            target: Arc::clone(self.shadow.as_ref()?),
            answering: Arc::clone(&self.generation),
            sequences: self.choices.len(),
        })
    }
}

/// Why a generation did not start a request.
enum NotStarted {
    /// It takes none now; another one may.
    Occupied(EngineError),
    /// The request is not one for it.
    Refused(ApiError),
}

/// What the two endpoints have in common once their prompts are known.
struct Common<'a> {
    address: &'a ModelAddress,
    /// For each prompt.
    choices: usize,
    /// Whether the choices are compared by their log-probabilities.
    compares: bool,
    max_tokens: Option<usize>,
    min_tokens: usize,
    ignores_end: bool,
    logprobs: Option<usize>,
    sampling: &'a SamplingParams,
    stop: &'a [String],
    delivery: Delivery,
    tools: &'a ToolUse,
    scheduling: Scheduling,
    preference: Preference,
    /// The name of the limit in the request, for errors about it.
    limit_field: &'static str,
    /// The name of the field that the prompt comes from.
    prompt_field: &'static str,
}

/// Starts a completion.
pub fn start_completion(application: &Application, request: &CompletionRequest) -> Result<Running, ApiError> {
    let tools = ToolUse::default();
    let prepare = |generation: &Generation| prepare_completion(generation, request);
    start(application, &common_of_completion(request, &tools), &prepare)
}

/// Starts a copy of a completion, behind everything else.
pub fn copy_completion(
    generation: &Generation,
    request: &CompletionRequest,
) -> Result<Vec<Choice>, ApiError> {
    let tools = ToolUse::default();
    copy(generation, common_of_completion(request, &tools), prepare_completion(generation, request)?)
}

fn common_of_completion<'a>(request: &'a CompletionRequest, tools: &'a ToolUse) -> Common<'a> {
    Common {
        address: &request.address,
        choices: request.selection.generated,
        compares: request.selection.selects(),
        max_tokens: Some(request.max_tokens),
        min_tokens: request.min_tokens,
        ignores_end: request.ignores_end,
        logprobs: request.logprobs,
        sampling: &request.sampling,
        stop: &request.stop,
        delivery: request.delivery,
        tools,
        scheduling: request.scheduling.clone(),
        preference: request.preference,
        limit_field: "max_tokens",
        prompt_field: "prompt",
    }
}

fn prepare_completion(generation: &Generation, request: &CompletionRequest) -> Result<Task, ApiError> {
    let prompts: &[Prompt] = &request.prompts;
    let prepared = prompts
        .iter()
        .enumerate()
        .map(|(index, prompt)| {
            let tokens = tokens_of(generation, index, prompts.len(), prompt)?;
            let echo = request.echo.then(|| match prompt {
                Prompt::Text(text) => text.clone(),
                Prompt::Tokens(ids) => generation.tokenizer().decode(ids, false),
            });
            Ok(Prepared { tokens, parser: AnswerParser::Plain, opening: Vec::new(), echo })
        })
        .collect::<Result<_, ApiError>>()?;
    Ok(Task { prompts: prepared, grammar: request.constraint.as_ref().map(AnswerGrammar::of_text) })
}

/// Starts a chat answer.
pub fn start_chat(application: &Application, request: &ChatRequest) -> Result<Running, ApiError> {
    let prepare = |generation: &Generation| prepare_chat(generation, request);
    start(application, &common_of_chat(request), &prepare)
}

/// Starts a copy of a chat answer, behind everything else.
pub fn copy_chat(generation: &Generation, request: &ChatRequest) -> Result<Vec<Choice>, ApiError> {
    copy(generation, common_of_chat(request), prepare_chat(generation, request)?)
}

fn common_of_chat(request: &ChatRequest) -> Common<'_> {
    Common {
        address: &request.address,
        choices: request.choices,
        compares: false,
        max_tokens: request.max_tokens,
        min_tokens: 0,
        ignores_end: false,
        logprobs: request.logprobs,
        sampling: &request.sampling,
        stop: &request.stop,
        delivery: request.delivery,
        tools: &request.tools,
        scheduling: request.scheduling.clone(),
        preference: request.preference,
        limit_field: "max_completion_tokens",
        prompt_field: "messages",
    }
}

fn start(application: &Application, common: &Common<'_>, prepare: &Prepare<'_>) -> Result<Running, ApiError> {
    for _ in 0..ROUTING_ATTEMPTS {
        let default = application.default_generation(common.address)?;
        let task = prepare(&default)?;
        let outline = RequestOutline {
            prompt_tokens: task.prompts.iter().map(|prompt| prompt.tokens.len()).sum(),
            max_tokens: common.max_tokens.unwrap_or_else(|| default.engine().max_model_len()),
            streaming: common.delivery != Delivery::Whole,
            preference: common.preference,
        };
        let route = application.route(common.address, &default, outline)?;
        match start_on_first(application, common, prepare, route, (default, task)) {
            Ok(running) => return Ok(running),
            // The generation was replaced since it was chosen: its successor is in place already.
            Err(NotStarted::Occupied(EngineError::Draining { .. })) if !application.is_draining() => {}
            Err(NotStarted::Occupied(error)) => return Err(error.into()),
            Err(NotStarted::Refused(error)) => return Err(error),
        }
    }
    Err(ApiError::new(ErrorKind::Unavailable, format!("model '{}' is being replaced", common.address.model))
        .retry_after(1))
}

/// Starts on the first generation of the route that takes the request. Where none does, the error is a full queue's if
/// there is one, since that passes without anybody's doing.
fn start_on_first(
    application: &Application,
    common: &Common<'_>,
    prepare: &Prepare<'_>,
    route: Route,
    (default, task): (Arc<Generation>, Task),
) -> Result<Running, NotStarted> {
    let mut of_default = Some(task);
    let mut occupied: Option<EngineError> = None;
    for (place, generation) in route.order.into_iter().enumerate() {
        // Variants of one model usually share a tokenizer; nothing says that they must.
        let task = match of_default.take_if(|_| Arc::ptr_eq(&default, &generation)) {
            Some(task) => Ok(task),
            None => prepare(&generation).map_err(NotStarted::Refused),
        };
        match task.and_then(|task| start_on(common, &generation, task)) {
            Ok(choices) => {
                let by = if place == 0 { route.by } else { "fallback" };
                application.metrics().routed(&generation.id().model, &generation.id().variant, by);
                let shadow = route.shadow.filter(|shadow| !Arc::ptr_eq(shadow, &generation));
                return Ok(Running { generation, choices, shadow });
            }
            Err(NotStarted::Occupied(error)) => match &occupied {
                Some(EngineError::QueueFull { .. }) => {}
                _ => occupied = Some(error),
            },
            // What another variant would have refused is no news where the first one is only occupied.
            Err(NotStarted::Refused(error)) => {
                return Err(occupied.map_or(NotStarted::Refused(error), NotStarted::Occupied));
            }
        }
    }
    Err(occupied.map_or_else(
        || NotStarted::Refused(ApiError::internal("the route has no variant", &common.address)),
        NotStarted::Occupied,
    ))
}

fn start_on(common: &Common<'_>, generation: &Generation, task: Task) -> Result<Vec<Choice>, NotStarted> {
    check_lengths(common, generation, &task.prompts).map_err(NotStarted::Refused)?;
    let constraint = task.grammar.map(|grammar| grammar.compile(generation)).transpose();
    let constraint = constraint.map_err(NotStarted::Refused)?;
    submit(common, generation, &task.prompts, constraint.as_ref()).map_err(|error| match error {
        EngineError::QueueFull { .. } | EngineError::Draining { .. } => NotStarted::Occupied(error),
        other => NotStarted::Refused(other.into()),
    })
}

fn copy(generation: &Generation, common: Common<'_>, task: Task) -> Result<Vec<Choice>, ApiError> {
    let common = Common { scheduling: common.scheduling.of_a_copy(), ..common };
    start_on(&common, generation, task).map_err(|error| match error {
        NotStarted::Occupied(error) => error.into(),
        NotStarted::Refused(error) => error,
    })
}

fn submit(
    common: &Common<'_>,
    generation: &Generation,
    prompts: &[Prepared],
    constraint: Option<&Constraint>,
) -> Result<Vec<Choice>, EngineError> {
    let mut checked = Vec::with_capacity(prompts.len() * common.choices);
    for prompt in prompts {
        for index in 0..common.choices {
            let (request, reader, opening) = choice(common, generation, prompt, index)?;
            let request = match constraint {
                Some(constraint) => request.with_constraint(constraint.clone()),
                None => request,
            };
            checked.push((request, reader, opening));
        }
    }
    checked
        .into_iter()
        .map(|(request, reader, opening)| {
            let satisfied = request.satisfied();
            Ok(Choice { stream: generation.engine().submit(request)?, reader, opening, satisfied })
        })
        .collect()
}

/// One of the choices for a prompt: what the engine is to do, what reads it, and what is known of it already.
fn choice(
    common: &Common<'_>,
    generation: &Generation,
    prompt: &Prepared,
    index: usize,
) -> Result<(GenerateRequest, ChoiceReader, Vec<Delta>), EngineError> {
    let Prepared { tokens, parser, opening, echo } = prompt;
    // In an answer with parts only the text of the answer itself can end it, so the parts have to be known.
    let is_plain = matches!(parser, AnswerParser::Plain);
    let (engine_stop, stop) =
        if is_plain { (common.stop.to_vec(), Vec::new()) } else { (Vec::new(), common.stop.to_vec()) };
    let sampling = common.sampling.for_choice(index as u64);
    let mut request = GenerateRequest::new(tokens.clone(), common.max_tokens, sampling, engine_stop)?;
    request = common.scheduling.apply(request).with_min_tokens(common.min_tokens)?;
    if common.ignores_end {
        request = request.ignoring_end();
    }
    if !is_plain {
        request = request.with_every_token();
    }
    // All choices of a prompt share it: it counts once.
    let prompt_tokens = if index == 0 { tokens.len() } else { 0 };
    let functions = common.tools.functions.iter().map(|function| function.name.clone()).collect();
    let mut reader = ChoiceReader::new(parser.clone(), stop, functions, common.tools.parallel, prompt_tokens);
    if common.compares && common.logprobs.is_none() {
        request = request.with_logprobs(0)?;
    }
    if let Some(top) = common.logprobs {
        request = request.with_logprobs(top)?;
        if echo.is_some() {
            request = request.with_prompt_logprobs();
        }
        let echoed =
            echo.clone().zip(tokens.first()).map(|(text, first)| EchoedPrompt { first: *first, text });
        reader = reader.with_logprobs(LogprobReader::new(generation.tokenizer(), echoed));
    }
    let mut deltas = reader.open(opening.clone());
    deltas.extend(echo.clone().filter(|text| !text.is_empty()).map(Delta::content));
    Ok((request, reader, deltas))
}

/// Prompt and completion must fit: a completion that is cut shorter than asked for would be a silent change.
fn check_lengths(common: &Common<'_>, generation: &Generation, prompts: &[Prepared]) -> Result<(), ApiError> {
    let limit = generation.engine().max_model_len();
    for prompt in prompts {
        let length = prompt.tokens.len();
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

fn prepare_chat(generation: &Generation, request: &ChatRequest) -> Result<Task, ApiError> {
    let Some(format) = generation.chat_format() else {
        let message = format!("{} has no chat template, so it answers /v1/completions only", generation.id());
        return Err(ApiError::new(ErrorKind::Unprocessable, message).at("model"));
    };
    let unsupported = |field: &str, what: &str| {
        let message = format!("{field}: {} {what}", generation.id());
        Err(ApiError::new(ErrorKind::UnsupportedParameter, message).at(field))
    };
    if !format.supports_tools() {
        if !request.tools.functions.is_empty() {
            return unsupported("tools", "has no chat format with tools");
        }
        if request.turns.iter().any(is_about_calls) {
            return unsupported("messages", "has no chat format with tool calls");
        }
    }
    if request.reasoning_effort.is_some() && !format.supports_reasoning_effort() {
        return unsupported("reasoning_effort", "can't be told how long to think");
    }
    let conversation = Conversation {
        turns: request.turns.clone(),
        tools: request.tools.functions.clone(),
        forced_tool: request.tools.forced().filter(|_| format.supports_forced_tool()).map(str::to_owned),
        reasoning_effort: request.reasoning_effort,
    };
    let prompt = format
        .prompt(generation.tokenizer(), &conversation)
        .map_err(|error| ApiError::new(ErrorKind::InvalidValue, error.to_string()).at("messages"))?;
    let grammar = AnswerGrammar::of_chat(
        generation.tokenizer(),
        &prompt.parser,
        request.constraint.as_ref(),
        &request.tools,
    );
    let parser =
        if request.constraint.is_some() { prompt.parser.with_literal_content() } else { prompt.parser };
    let prepared = Prepared { tokens: prompt.tokens, parser, opening: prompt.opening, echo: None };
    Ok(Task { prompts: vec![prepared], grammar })
}

fn is_about_calls(turn: &Turn) -> bool {
    match turn {
        Turn::Tool { .. } => true,
        Turn::Assistant { tool_calls, .. } => !tool_calls.is_empty(),
        _ => false,
    }
}
