//! Compare: one prompt, several variants, their answers side by side.
//!
//! `POST` with `{"prompt": …, "variants": […], "max_tokens": …}`, and `temperature` and `seed` where they are wanted. A variant is
//! `MODEL@VARIANT`, or its name alone where only one model has such a variant. The answer is a stream of server-sent events:
//! `piece` with the variant and its text, in the order in which the pieces come; then, when all have ended, `figures` for each
//! variant: tokens, milliseconds to the first token, and for each token after that. A variant that fails in the middle gets
//! `error` in place of its figures.

mod asked;
mod refused;

use espalier_http_endpoint::inference::{self, Ending, FinishReason, Session, Step};
use espalier_http_endpoint::poll::{Pollable, poll};
use espalier_http_endpoint::{
    About, Gone, Handler, Identity, IncomingRequest, Method, ResponseOutparam, ResponseWriter, identity,
    path_and_query, read_body,
};
use serde_json::{Value, json};

use asked::Asked;
use refused::Refused;

struct Compare;

impl About for Compare {
    fn describe() -> Identity {
        identity!()
    }
}

impl Handler for Compare {
    fn handle(request: IncomingRequest, response: ResponseOutparam) {
        match begin(&request) {
            // Whoever has gone is told nothing, and the sessions end with this call.
            Ok(answers) => drop(stream(answers, response)),
            Err(refused) => refused.answer(response),
        }
    }
}

/// The answer of one variant.
struct Answer {
    variant: String,
    session: Session,
    /// How it ended, or why it could not go on.
    end: Option<Result<Ending, String>>,
}

/// Starts every answer, or none.
fn begin(request: &IncomingRequest) -> Result<Vec<Answer>, Refused> {
    let (path, _) = path_and_query(request);
    if path != "/" {
        return Err(Refused::not_found(&path));
    }
    if !matches!(request.method(), Method::Post) {
        return Err(Refused::method());
    }
    let body = read_body(request).map_err(|reason| Refused::field("body", &reason, "a JSON object"))?;
    let asked = Asked::parse(&body)?;
    let addresses = asked.addresses(&inference::variants())?;
    let begin = |variant: String| {
        let session = Session::begin(&asked.request(&variant))?;
        Ok(Answer { variant, session, end: None })
    };
    addresses.into_iter().map(begin).collect()
}

fn stream(mut answers: Vec<Answer>, response: ResponseOutparam) -> Result<(), Gone> {
    let headers =
        [("content-type", "text/event-stream"), ("cache-control", "no-store"), ("x-accel-buffering", "no")];
    let mut writer = ResponseWriter::begin(response, 200, &headers);
    while answers.iter().any(|answer| answer.end.is_none()) {
        for place in ready(&answers) {
            let Some(answer) = answers.get_mut(place) else { continue };
            if let Some(step) = answer.session.next() {
                tell(answer, step, &mut writer)?;
            }
        }
    }
    for answer in &answers {
        let (event, data) = last_event(answer);
        write(&mut writer, event, &data)?;
    }
    writer.finish();
    Ok(())
}

/// Waits until some of the unfinished answers go on, and returns their places.
fn ready(answers: &[Answer]) -> Vec<usize> {
    let unfinished = answers.iter().enumerate().filter(|(_, answer)| answer.end.is_none());
    let (places, pollables): (Vec<usize>, Vec<Pollable>) =
        unfinished.map(|(place, answer)| (place, answer.session.subscribe())).unzip();
    let ready = poll(&pollables.iter().collect::<Vec<_>>());
    ready.into_iter().filter_map(|index| places.get(index as usize).copied()).collect()
}

fn tell(answer: &mut Answer, step: Step, writer: &mut ResponseWriter) -> Result<(), Gone> {
    let variant = &answer.variant;
    match step {
        Step::Text(text) => write(writer, "piece", &json!({"variant": variant, "text": text})),
        Step::Reasoning(text) => write(writer, "piece", &json!({"variant": variant, "reasoning": text})),
        Step::Finished(ending) => {
            answer.end = Some(Ok(ending));
            Ok(())
        }
        Step::Failed(reason) => {
            answer.end = Some(Err(reason));
            Ok(())
        }
    }
}

fn last_event(answer: &Answer) -> (&'static str, Value) {
    let variant = &answer.variant;
    match &answer.end {
        Some(Ok(ending)) => {
            let reason = match ending.reason {
                FinishReason::Stop => "stop",
                FinishReason::Length => "length",
            };
            let figures = json!({
                "variant": variant, "finish_reason": reason, "prompt_tokens": ending.prompt_tokens,
                "tokens": ending.tokens, "first_token_ms": ending.first_token_milliseconds,
                "ms_per_token": ending.milliseconds_per_token,
            });
            ("figures", figures)
        }
        Some(Err(reason)) => ("error", json!({"variant": variant, "message": reason})),
        None => ("error", json!({"variant": variant, "message": "it has not ended"})),
    }
}

/// JSON text has no raw line breaks, so one line of data is enough.
fn write(writer: &mut ResponseWriter, event: &str, data: &Value) -> Result<(), Gone> {
    writer.write(format!("event: {event}\ndata: {data}\n\n").as_bytes())
}

espalier_http_endpoint::export!(Compare);
