//! Refusals, in the shape that all errors of the host have.

use espalier_http_endpoint::inference::Refusal;
use espalier_http_endpoint::{ResponseOutparam, ResponseWriter};
use serde_json::json;

/// The longest part of a found text that is repeated, in characters.
const FOUND_LENGTH: usize = 200;

/// Why a request is not answered.
pub(crate) struct Refused {
    status: u16,
    code: &'static str,
    field: Option<String>,
    message: String,
}

impl Refused {
    /// A field with a value that is not taken.
    pub(crate) fn field(field: &str, found: &str, expected: &str) -> Self {
        let found: String = found.chars().take(FOUND_LENGTH).collect();
        let message = format!("{field}: found {found}, expected {expected}");
        Self { status: 400, code: "invalid_value", field: Some(field.to_owned()), message }
    }

    /// A field that is not known.
    pub(crate) fn unknown_field(field: &str, known: &[&str]) -> Self {
        let message = format!("{field}: found an unknown field, expected {}", known.join(", "));
        Self { status: 400, code: "unsupported_parameter", field: Some(field.to_owned()), message }
    }

    /// A variant that is not loaded.
    pub(crate) fn unknown_variant(found: &str, there: &str) -> Self {
        Self { status: 404, code: "model_not_found", ..Self::field("variants", found, there) }
    }

    /// A path that the endpoint does not have.
    pub(crate) fn not_found(path: &str) -> Self {
        let message = format!("{path} is not a path of this endpoint, expected /");
        Self { status: 404, code: "not_found", field: None, message }
    }

    /// Another method than the endpoint's.
    pub(crate) fn method() -> Self {
        let message = "found another method, expected POST".to_owned();
        Self { status: 405, code: "method_not_allowed", field: None, message }
    }

    /// Writes the response.
    pub(crate) fn answer(self, response: ResponseOutparam) {
        let kind = if self.status >= 500 { "server_error" } else { "invalid_request_error" };
        let body = json!({"error": {
            "message": self.message, "type": kind, "param": self.field, "code": self.code,
        }});
        ResponseWriter::whole(response, self.status, "application/json", body.to_string().as_bytes());
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let (status, code, message) = match refusal {
            Refusal::UnknownModel(message) => (404, "model_not_found", message),
            Refusal::Invalid(message) => (400, "invalid_value", message),
            Refusal::Busy(message) => (503, "unavailable", message),
            Refusal::Failed(message) => (500, "internal_error", message),
        };
        Self { status, code, field: None, message }
    }
}
