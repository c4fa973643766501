//! Goes on with a text: `GET /` lists the variants that the host serves, and `POST /` with a text as its body is answered with
//! what the first variant that takes requests writes, as it comes.

pub mod request;
pub mod response;

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "http-endpoint", generate_all });
}

pub use bindings::wasi::http::types as http;

use bindings::espalier::endpoint::inference::{Prompt, Refusal, Request, Session, Step, variants};
use bindings::espalier::policy::types::Identity;
use bindings::exports::espalier::endpoint::about::Guest as About;
use bindings::exports::wasi::http::incoming_handler::Guest as Handler;
use http::{IncomingRequest, Method, ResponseOutparam};
use response::ResponseWriter;

/// The most tokens of an answer.
const MAX_TOKENS: u32 = 64;

const TEXT: &str = "text/plain; charset=utf-8";

struct Endpoint;

impl About for Endpoint {
    fn describe() -> Identity {
        Identity {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: env!("CARGO_PKG_DESCRIPTION").to_owned(),
        }
    }
}

impl Handler for Endpoint {
    // Called for each request, in an instance of its own.
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        match request.method() {
            Method::Get => ResponseWriter::whole(out, 200, TEXT, listed().as_bytes()),
            Method::Post => match begin(&request) {
                Ok(session) => tell(&session, out),
                Err((status, text)) => ResponseWriter::whole(out, status, TEXT, text.as_bytes()),
            },
            _ => ResponseWriter::whole(out, 405, TEXT, b"expected GET or POST\n"),
        }
    }
}

/// The addresses of the variants, one a line.
fn listed() -> String {
    variants().iter().map(|variant| format!("{}@{}\n", variant.model, variant.name)).collect()
}

/// A session that goes on with the body; or the status and the text that say why there is none.
fn begin(request: &IncomingRequest) -> Result<Session, (u16, String)> {
    let body = request::read_body(request).map_err(|text| (400, format!("{text}\n")))?;
    let text = String::from_utf8(body).map_err(|_| (400, "the body is no UTF-8\n".to_owned()))?;
    let variants = variants();
    let Some(variant) = variants.iter().find(|variant| variant.accepts) else {
        return Err((503, "no variant takes requests\n".to_owned()));
    };
    Session::begin(&Request {
        model: format!("{}@{}", variant.model, variant.name),
        prompt: Prompt::Text(text),
        max_tokens: MAX_TOKENS,
        temperature: Some(0.0),
        seed: None,
    })
    .map_err(|refusal| match refusal {
        Refusal::UnknownModel(text) => (404, format!("{text}\n")),
        Refusal::Invalid(text) => (400, format!("{text}\n")),
        Refusal::Busy(text) => (503, format!("{text}\n")),
        Refusal::Failed(text) => (500, format!("{text}\n")),
    })
}

/// Writes the answer as it comes. Ends without `finish`, which looks cut, where the client has gone or the host failed.
fn tell(session: &Session, out: ResponseOutparam) {
    let mut writer = ResponseWriter::begin(out, 200, &[("content-type", TEXT)]);
    loop {
        match session.next() {
            Some(Step::Text(piece)) => {
                if writer.write(piece.as_bytes()).is_err() {
                    return;
                }
            }
            Some(Step::Reasoning(_)) => {}
            Some(Step::Finished(_)) => return writer.finish(),
            Some(Step::Failed(_)) => return,
            None => session.subscribe().block(),
        }
    }
}

bindings::export!(Endpoint with_types_in bindings);
