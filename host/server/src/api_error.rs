//! The one error shape of the HTTP surface.
//!
//! Every refusal, on both listeners, is `{"error": {message, type, param, code, …}}` as OpenAI's clients expect it.
//! `param` names the field (and `line` its line in a text of TOML); `found` and `expected` are added where both are known, so that a program can react
//! without parsing the sentence. The status, the `type` and the `code` all follow from [`ErrorKind`], and the
//! same `code` labels the error counter: there is no second mapping anywhere.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

/// What went wrong, at the granularity a client can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The body is not JSON, or not of the JSON type that the endpoint reads.
    InvalidJson,
    /// A field is missing or has a value outside its range.
    InvalidValue,
    /// A field that this server does not implement, or does not know.
    UnsupportedParameter,
    /// Prompt plus completion do not fit into the model's context.
    ContextLengthExceeded,
    /// The admin listener wants a token, and none or a wrong one was given.
    Unauthorized,
    /// The `Host` header names a machine that this listener does not answer for.
    ForbiddenHost,
    /// Nobody whom this host trusts has signed the component.
    UntrustedComponent,
    /// No such model or variant is loaded.
    ModelNotFound,
    /// No such path, component, revision or job.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The client took too long to send its request.
    RequestTimeout,
    /// The revision or state that the change was based on is no longer the current one.
    Conflict,
    /// The body is larger than the listener reads.
    PayloadTooLarge,
    /// The body is of a media type that the endpoint does not read.
    UnsupportedMediaType,
    /// The input was well formed, and its content was refused (a component of the wrong world, a broken checkpoint).
    Unprocessable,
    /// The engine's queue is full.
    QueueFull,
    /// The server is starting, draining, or the model was unloaded while the request waited.
    Unavailable,
    /// The component behind an extra endpoint gave no response.
    EndpointFailed,
    /// A fault of this program.
    Internal,
}

impl ErrorKind {
    /// Every kind, for the OpenAPI document.
    pub const ALL: &[Self] = &[
        Self::InvalidJson,
        Self::InvalidValue,
        Self::UnsupportedParameter,
        Self::ContextLengthExceeded,
        Self::Unauthorized,
        Self::ForbiddenHost,
        Self::UntrustedComponent,
        Self::ModelNotFound,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::Conflict,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::Unprocessable,
        Self::QueueFull,
        Self::Unavailable,
        Self::EndpointFailed,
        Self::Internal,
    ];

    /// HTTP status.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::InvalidJson
            | Self::InvalidValue
            | Self::UnsupportedParameter
            | Self::ContextLengthExceeded => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::ForbiddenHost | Self::UntrustedComponent => StatusCode::FORBIDDEN,
            Self::ModelNotFound | Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict => StatusCode::CONFLICT,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
            Self::QueueFull => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::EndpointFailed => StatusCode::BAD_GATEWAY,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The `code` of the JSON body and of the error counter.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::InvalidValue => "invalid_value",
            Self::UnsupportedParameter => "unsupported_parameter",
            Self::ContextLengthExceeded => "context_length_exceeded",
            Self::Unauthorized => "unauthorized",
            Self::ForbiddenHost => "forbidden_host",
            Self::UntrustedComponent => "untrusted_component",
            Self::ModelNotFound => "model_not_found",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::Conflict => "conflict",
            Self::PayloadTooLarge => "payload_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Unprocessable => "unprocessable",
            Self::QueueFull => "queue_full",
            Self::Unavailable => "unavailable",
            Self::EndpointFailed => "endpoint_failed",
            Self::Internal => "internal_error",
        }
    }

    /// The `type` of the JSON body, in OpenAI's vocabulary.
    #[must_use]
    pub const fn error_type(self) -> &'static str {
        match self {
            Self::Unauthorized => "authentication_error",
            Self::ForbiddenHost | Self::UntrustedComponent => "permission_error",
            Self::QueueFull => "rate_limit_error",
            Self::Unavailable => "service_unavailable_error",
            Self::EndpointFailed | Self::Internal => "server_error",
            _ => "invalid_request_error",
        }
    }
}

/// An error as the client sees it. Small, since it stands in every result of a handler.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", details.message)]
pub struct ApiError {
    details: Box<Details>,
}

#[derive(Clone, Debug)]
struct Details {
    kind: ErrorKind,
    message: String,
    field: Option<String>,
    line: Option<usize>,
    found: Option<Value>,
    expected: Option<Value>,
    retry_after_seconds: Option<u64>,
    allow: Option<String>,
}

impl ApiError {
    /// An error with its sentence.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let details = Details {
            kind,
            message: message.into(),
            field: None,
            line: None,
            found: None,
            expected: None,
            retry_after_seconds: None,
            allow: None,
        };
        Self { details: Box::new(details) }
    }

    /// A field whose value is not acceptable: the sentence is made of the three parts.
    pub fn field(field: impl Into<String>, found: impl Into<Value>, expected: impl Into<String>) -> Self {
        let (field, found, expected) = (field.into(), found.into(), expected.into());
        let message = format!("{field}: found {}, expected {expected}", brief(&found));
        Self::new(ErrorKind::InvalidValue, message).at(field).found(found).expected(expected)
    }

    /// A required field that is not there.
    pub fn missing(field: impl Into<String>, expected: impl Into<String>) -> Self {
        let (field, expected) = (field.into(), expected.into());
        Self::new(ErrorKind::InvalidValue, format!("{field} is missing, expected {expected}"))
            .at(field)
            .expected(expected)
    }

    /// A fault of this program; the cause goes to the log, the client gets the sentence only.
    pub fn internal(message: impl Into<String>, cause: &dyn std::fmt::Display) -> Self {
        let message = message.into();
        tracing::error!(%cause, "{message}");
        Self::new(ErrorKind::Internal, message)
    }

    /// Changes the kind.
    #[must_use]
    pub fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.details.kind = kind;
        self
    }

    /// Names the field at fault.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.details.field = Some(field.into());
        self
    }

    /// Adds the line of the text that the field holds; `place` is `NAME, line N`, or NAME alone where no line is at fault.
    #[must_use]
    pub fn on_line_of(mut self, place: &str) -> Self {
        self.details.line = place.rsplit_once(", line ").and_then(|(_, line)| line.parse().ok());
        self
    }

    /// Adds what was found.
    #[must_use]
    pub fn found(mut self, found: impl Into<Value>) -> Self {
        self.details.found = Some(shortened(found.into()));
        self
    }

    /// Adds what was expected.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<Value>) -> Self {
        self.details.expected = Some(expected.into());
        self
    }

    /// Adds a `Retry-After` header.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.details.retry_after_seconds = Some(seconds);
        self
    }

    /// Adds an `Allow` header (for 405).
    #[must_use]
    pub fn allow(mut self, methods: String) -> Self {
        self.details.allow = Some(methods);
        self
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.details.kind
    }

    /// The field at fault, if the error is about one.
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        self.details.field.as_deref()
    }

    /// The JSON body.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut error = Map::new();
        error.insert("message".into(), json!(self.details.message));
        error.insert("type".into(), json!(self.details.kind.error_type()));
        error.insert("param".into(), json!(self.details.field));
        error.insert("code".into(), json!(self.details.kind.code()));
        if let Some(line) = self.details.line {
            error.insert("line".into(), json!(line));
        }
        if let Some(found) = &self.details.found {
            error.insert("found".into(), found.clone());
        }
        if let Some(expected) = &self.details.expected {
            error.insert("expected".into(), expected.clone());
        }
        json!({ "error": error })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.details.kind.status(), axum::Json(self.to_json())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.details.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) =
            self.details.allow.as_deref().and_then(|methods| HeaderValue::from_str(methods).ok())
        {
            headers.insert(header::ALLOW, allow);
        }
        if self.details.kind == ErrorKind::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // The metrics layer reads the kind from here, so that the counter's label cannot differ from the body's code.
        response.extensions_mut().insert(self.details.kind);
        response
    }
}

/// Longest piece of a client's own input that is sent back to it.
const ECHO_LIMIT: usize = 80;

/// A value as it stands in a sentence, cut to a length that stays readable.
fn brief(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".into(),
        Value::Array(items) => format!("a list of {} values", items.len()),
        other => cut(&other.to_string()),
    }
}

fn shortened(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(cut(&text)),
        Value::Array(_) | Value::Object(_) => Value::String(brief(&value)),
        other => other,
    }
}

fn cut(text: &str) -> String {
    if text.chars().count() <= ECHO_LIMIT {
        return text.to_owned();
    }
    let start: String = text.chars().take(ECHO_LIMIT).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_its_own() {
        let mut codes: Vec<_> = ErrorKind::ALL.iter().map(|kind| kind.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ErrorKind::ALL.len());
    }

    #[test]
    fn a_field_error_names_all_three_parts() {
        let body = ApiError::field("temperature", "hot", "a number from 0 to 2").to_json();
        assert_eq!(body["error"]["message"], r#"temperature: found "hot", expected a number from 0 to 2"#);
        assert_eq!(body["error"]["param"], "temperature");
        assert_eq!(body["error"]["found"], "hot");
        assert_eq!(body["error"]["expected"], "a number from 0 to 2");
        assert_eq!(body["error"]["type"], "invalid_request_error");
    }

    #[test]
    fn long_input_is_not_sent_back_whole() {
        let error = ApiError::field("stop", "x".repeat(10_000), "something short");
        assert!(error.to_string().len() < 300);
        assert!(error.to_json().to_string().len() < 600);
    }

    #[test]
    fn headers_follow_from_the_kind() {
        let response = ApiError::new(ErrorKind::QueueFull, "full").retry_after(3).into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "3");
        let response = ApiError::new(ErrorKind::Unauthorized, "no").into_response();
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
    }
}
