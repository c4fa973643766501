//! Server-sent events: framing, and responses that are made of them.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_core::Stream;
use serde_json::Value;

/// The end of an OpenAI stream.
pub const DONE: &str = "data: [DONE]\n\n";
/// A comment, which clients skip; it shows both ends that the connection lives.
pub const KEEP_ALIVE: &str = ": keep-alive\n\n";

/// One event without a name, as OpenAI's streams have them. JSON text has no raw line breaks, so one line is enough.
#[must_use]
pub fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

/// One named event.
#[must_use]
pub fn named(event: &str, value: &Value) -> String {
    format!("event: {event}\ndata: {value}\n\n")
}

/// A response whose body is `frames`. Dropping it (the client went away) drops the stream.
pub fn response(frames: impl Stream<Item = String> + Send + 'static) -> Response {
    let body = Body::from_stream(tokio_stream::StreamExt::map(frames, Ok::<_, Infallible>));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that buffer would turn a stream into one late answer.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_the_text() {
        let frame = data(&json!({"text": "a\nb\r\n\n\u{2028}data: x"}));
        assert_eq!(frame.matches('\n').count(), 2);
        assert!(frame.starts_with("data: {") && frame.ends_with("}\n\n"));
        assert_eq!(named("progress", &json!(1)), "event: progress\ndata: 1\n\n");
    }
}
