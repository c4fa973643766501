//! Reading a request's body within a size and a time, and its JSON.
//!
//! A body that is announced as too large is refused before any of it is read; one that grows too large is refused when
//! it does, and never more than the limit is held. What the client still sends is then thrown away for a moment, since
//! a connection that is closed with unread input is reset, and the client would see that instead of the answer.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use serde_json::Value;
use tokio_stream::StreamExt as _;

use crate::api_error::{ApiError, ErrorKind};

/// Largest JSON body.
pub const JSON_LIMIT: usize = 16 << 20;
/// Largest component.
pub const COMPONENT_LIMIT: usize = 64 << 20;
/// How long a client may take to send its body.
const READ_TIME: Duration = Duration::from_secs(60);
/// How long input is thrown away after a refusal.
const DISCARD_TIME: Duration = Duration::from_secs(3);

/// Reads a whole body of at most `limit` bytes.
pub async fn read(request: Request<Body>, limit: usize) -> Result<Vec<u8>, ApiError> {
    let announced = announced_length(request.headers());
    let mut stream = request.into_body().into_data_stream();
    if let Some(length) = announced.filter(|length| *length > limit as u64) {
        tokio::spawn(discard(stream));
        return Err(too_large(Some(length), limit));
    }
    let mut bytes = Vec::new();
    let deadline = tokio::time::Instant::now() + READ_TIME;
    loop {
        let chunk = match tokio::time::timeout_at(deadline, stream.next()).await {
            Ok(None) => return Ok(bytes),
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(error))) => {
                let message = format!("the body could not be read: {error}");
                return Err(ApiError::new(ErrorKind::InvalidJson, message));
            }
            Err(_) => {
                let message = format!("the body did not arrive within {} seconds", READ_TIME.as_secs());
                return Err(ApiError::new(ErrorKind::RequestTimeout, message));
            }
        };
        if bytes.len() + chunk.len() > limit {
            tokio::spawn(discard(stream));
            return Err(too_large(None, limit));
        }
        bytes.extend_from_slice(&chunk);
    }
}

/// Reads a JSON body. The media type must be JSON: a web page of another origin cannot send that without asking first.
pub async fn read_json(request: Request<Body>) -> Result<Value, ApiError> {
    let media_type = media_type(request.headers());
    if media_type != "application/json" {
        let message = format!("content-type: found {media_type:?}, expected \"application/json\"");
        return Err(ApiError::new(ErrorKind::UnsupportedMediaType, message)
            .at("content-type")
            .found(media_type)
            .expected("application/json"));
    }
    let bytes = read(request, JSON_LIMIT).await?;
    parse_json(&bytes)
}

/// Parses JSON, saying where it stops being JSON.
pub fn parse_json(bytes: &[u8]) -> Result<Value, ApiError> {
    if bytes.is_empty() {
        return Err(ApiError::new(ErrorKind::InvalidJson, "the body is empty, expected a JSON object"));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        ApiError::new(ErrorKind::InvalidJson, format!("the body is not valid JSON: {error}"))
            .found(format!("line {}, column {}", error.line(), error.column()))
            .expected("a JSON object")
    })
}

/// The media type without its parameters, in lower case; empty if there is none.
pub fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(announced: Option<u64>, limit: usize) -> ApiError {
    let message = match announced {
        Some(length) => format!("the body has {length} bytes, expected at most {limit}"),
        None => format!("the body has more than {limit} bytes, which is the limit"),
    };
    let error = ApiError::new(ErrorKind::PayloadTooLarge, message).expected(limit);
    match announced {
        Some(length) => error.found(length),
        None => error,
    }
}

async fn discard(mut stream: axum::body::BodyDataStream) {
    let ended = async { while let Some(Ok(_)) = stream.next().await {} };
    // Whether the client ended or the time did is all the same: the connection closes next.
    let _ = tokio::time::timeout(DISCARD_TIME, ended).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_errors_name_the_place() {
        let error = parse_json(b"{\"a\": 1,\n \"b\": }").unwrap_err();
        assert!(error.to_string().contains("line 2 column 7"), "{error}");
        assert_eq!(parse_json(b"").unwrap_err().kind(), ErrorKind::InvalidJson);
    }

    #[test]
    fn deep_nesting_is_refused_not_recursed() {
        let deep = "[".repeat(100_000);
        assert!(parse_json(deep.as_bytes()).unwrap_err().to_string().contains("recursion limit"));
    }

    #[tokio::test]
    async fn a_body_is_limited_with_and_without_an_announced_length() {
        let announced =
            Request::builder().header("content-length", "100").body(Body::from(vec![b' '; 100])).unwrap();
        let error = read(announced, 99).await.unwrap_err();
        assert_eq!(error.to_string(), "the body has 100 bytes, expected at most 99");
        let unannounced = Request::new(Body::from(vec![b' '; 100]));
        assert_eq!(read(unannounced, 99).await.unwrap_err().kind(), ErrorKind::PayloadTooLarge);
        assert_eq!(read(Request::new(Body::from("abc")), 3).await.unwrap(), b"abc");
    }
}
