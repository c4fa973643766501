//! Errors of components and of the state directory, as clients of the admin API see them.

use espalier_components::ComponentError;
use espalier_state::StateError;

use crate::api_error::{ApiError, ErrorKind};

impl From<ComponentError> for ApiError {
    fn from(error: ComponentError) -> Self {
        let message = error.to_string();
        match error {
            ComponentError::TooLarge { found, limit, .. } => {
                Self::new(ErrorKind::PayloadTooLarge, message).found(found).expected(limit)
            }
            ComponentError::TooComplex { found, limit, .. } => {
                Self::new(ErrorKind::Unprocessable, message).at("component").found(found).expected(limit)
            }
            ComponentError::NotAComponent { .. }
            | ComponentError::UnknownWorld { .. }
            | ComponentError::Limit { .. }
            | ComponentError::Trap { .. }
            | ComponentError::Guest { .. }
            | ComponentError::InvalidAnswer { .. }
            | ComponentError::Unsupported { .. } => {
                Self::new(ErrorKind::Unprocessable, message).at("component")
            }
            ComponentError::WrongWorld { expected, problems, .. } => {
                Self::new(ErrorKind::Unprocessable, message)
                    .at("component")
                    .found(problems.join("; "))
                    .expected(expected.to_string())
            }
            ComponentError::WrongSlot { found, expected, .. } => Self::new(ErrorKind::Unprocessable, message)
                .at("slot")
                .found(found.to_string())
                .expected(expected.to_string()),
            ComponentError::InvalidName { kind, found, expected } => {
                Self::new(ErrorKind::InvalidValue, message).at(kind).found(found).expected(expected)
            }
            ComponentError::Unsigned { .. }
            | ComponentError::UnknownSigner { .. }
            | ComponentError::WrongSignature { .. } => {
                Self::new(ErrorKind::UntrustedComponent, message).at("signature")
            }
            ComponentError::InvalidKey { found, expected, .. } => {
                Self::new(ErrorKind::InvalidValue, message).at("signature").found(found).expected(expected)
            }
            ComponentError::InvalidGrant { found, expected } => Self::new(ErrorKind::InvalidValue, message)
                .at("granted_hosts")
                .found(found)
                .expected(expected),
            ComponentError::InvalidConfiguration { found, expected } => {
                Self::new(ErrorKind::InvalidValue, message)
                    .at("configuration")
                    .found(found)
                    .expected(expected)
            }
            ComponentError::Ambiguous { .. } => Self::new(ErrorKind::InvalidValue, message).at("component"),
            ComponentError::NotDeployed(_) | ComponentError::FileNotFound { .. } => {
                Self::new(ErrorKind::NotFound, message).at("component")
            }
            ComponentError::SlotEmpty(_) => Self::new(ErrorKind::NotFound, message).at("slot"),
            ComponentError::NothingEarlier(_) | ComponentError::NoCanary(_) => {
                Self::new(ErrorKind::Conflict, message).at("slot")
            }
            ComponentError::VersionTaken { .. } | ComponentError::InUse { .. } => {
                Self::new(ErrorKind::Conflict, message).at("component")
            }
            ComponentError::Busy { .. } => Self::new(ErrorKind::Unavailable, message).retry_after(1),
            ComponentError::State(error) => error.into(),
            other => Self::internal("the component host failed", &other),
        }
    }
}

impl From<StateError> for ApiError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::RevisionConflict { expected, found, .. } => {
                Self::new(ErrorKind::Conflict, error.to_string())
                    .at("expected_revision")
                    .found(found.0)
                    .expected(expected.0)
            }
            other => Self::internal("the state directory could not be read or written", &other),
        }
    }
}
