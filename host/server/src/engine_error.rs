//! Errors of the engine, as clients see them: the one place where they get a status.

use std::ops::RangeInclusive;

use espalier_engine::EngineError;

use crate::api_error::{ApiError, ErrorKind};

/// What a client should wait at least, and at most, before it tries again.
const RETRY_SECONDS: RangeInclusive<u64> = 1..=60;

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        match error {
            EngineError::InvalidParameter { field, found, expected } => Self::field(field, found, expected),
            EngineError::GrammarRefused { .. } => Self::new(ErrorKind::InvalidValue, message),
            EngineError::PromptTooLong { found, limit } => {
                Self::new(ErrorKind::ContextLengthExceeded, message).at("prompt").found(found).expected(limit)
            }
            EngineError::EmptyPrompt => {
                Self::new(ErrorKind::InvalidValue, message).at("prompt").found(0).expected("at least 1 token")
            }
            EngineError::QueueFull { limit, turnover } => {
                // In whole seconds, rounded up: before that no place is free.
                let seconds = turnover.map_or(0, |turnover| turnover.as_secs() + 1);
                let seconds = seconds.clamp(*RETRY_SECONDS.start(), *RETRY_SECONDS.end());
                Self::new(ErrorKind::QueueFull, message).expected(limit).retry_after(seconds)
            }
            EngineError::Draining { .. } => {
                Self::new(ErrorKind::Unavailable, message).retry_after(*RETRY_SECONDS.start())
            }
            EngineError::UnknownModel { found, known } => {
                Self::new(ErrorKind::ModelNotFound, message).at("model").found(found).expected(known)
            }
            EngineError::UnknownVariant { model, found, known } => {
                Self::new(ErrorKind::ModelNotFound, message)
                    .at("model")
                    .found(format!("{model}@{found}"))
                    .expected(known)
            }
            EngineError::InvalidName { what, found } => {
                Self::new(ErrorKind::InvalidValue, message).at(what).found(found)
            }
            EngineError::CacheTooSmall { .. } | EngineError::Vocabulary { .. } | EngineError::Model(_) => {
                Self::new(ErrorKind::Unprocessable, message)
            }
            other => Self::internal("the engine failed", &other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::response::IntoResponse as _;

    use super::*;

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        for (milliseconds, seconds) in
            [(None, "1"), (Some(40), "1"), (Some(2500), "3"), (Some(1 << 30), "60")]
        {
            let turnover = milliseconds.map(Duration::from_millis);
            let error = ApiError::from(EngineError::QueueFull { limit: 4, turnover });
            assert_eq!(error.kind(), ErrorKind::QueueFull);
            assert!(error.to_string().contains('4'));
            assert_eq!(error.into_response().headers()["retry-after"], seconds);
        }
    }

    #[test]
    fn a_long_prompt_names_both_numbers() {
        let body = ApiError::from(EngineError::PromptTooLong { found: 9000, limit: 2048 }).to_json();
        assert_eq!(body["error"]["code"], "context_length_exceeded");
        assert_eq!(
            (body["error"]["found"].as_u64(), body["error"]["expected"].as_u64()),
            (Some(9000), Some(2048))
        );
    }
}
