//! The HTTP side of a host: OpenAI's API, the admin API, metrics, health and the web UI.

pub mod api_error;
pub mod body;
pub mod drain;
pub mod error;
pub mod event_stream;
pub mod fields;
pub mod listener;
pub mod model_address;

/// OpenAI's API.
pub mod openai {
    pub mod chat_request;
    pub mod completion_request;
    pub mod request_field;
    pub mod sampling;
}
/// The admin API.
pub mod admin {
    pub mod access;
}
/// Metrics.
pub mod metrics {
    pub mod definition;
}
