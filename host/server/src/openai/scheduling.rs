//! The fields that say how a request is served beside others: its priority, its flow and what it shares.

use std::sync::Arc;

use espalier_engine::GenerateRequest;

use crate::api_error::ApiError;
use crate::fields::Fields;

/// How a request stands to others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// Lower goes first.
    priority: i64,
    /// Whose request it is: users share the service fairly.
    user: Option<Arc<str>>,
    /// Only requests with the same one share cached prefixes.
    cache_salt: Option<Arc<str>>,
}

impl Scheduling {
    /// Reads `priority`, `user` and `cache_salt`.
    pub fn parse(fields: &mut Fields) -> Result<Self, ApiError> {
        let path = fields.path("priority");
        let priority = match fields.take("priority") {
            None => 0,
            Some(value) => {
                value.as_i64().ok_or_else(|| ApiError::field(path, value, "a 64-bit whole number"))?
            }
        };
        let user = fields.string("user")?.map(Into::into);
        let path = fields.path("cache_salt");
        let cache_salt = fields.string("cache_salt")?;
        if cache_salt.as_deref() == Some("") {
            return Err(ApiError::field(path, "\"\"", "a string of at least one character"));
        }
        Ok(Self { priority, user, cache_salt: cache_salt.map(Into::into) })
    }

    /// Whose request it is.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Behind every other request, and in nobody's share.
    #[must_use]
    pub fn of_a_copy(&self) -> Self {
        Self { priority: i64::MAX, user: Some("(copies)".into()), cache_salt: self.cache_salt.clone() }
    }

    /// The request, served as this says.
    #[must_use]
    pub fn apply(&self, request: GenerateRequest) -> GenerateRequest {
        let mut request = request.with_priority(self.priority);
        if let Some(user) = &self.user {
            request = request.with_flow(Arc::clone(user));
        }
        if let Some(salt) = &self.cache_salt {
            request = request.with_cache_salt(Arc::clone(salt));
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(body: Value) -> Result<Scheduling, ApiError> {
        Scheduling::parse(&mut Fields::of_body(body)?)
    }

    #[test]
    fn what_is_not_said_is_the_same_for_all() {
        assert_eq!(parse(json!({})).unwrap(), Scheduling::default());
        let said = parse(json!({"priority": -3, "user": "me", "cache_salt": "s"})).unwrap();
        let expected = Scheduling { priority: -3, user: Some("me".into()), cache_salt: Some("s".into()) };
        assert_eq!(said, expected);
    }

    #[test]
    fn a_copy_goes_last_and_shares_prefixes_as_its_request_does() {
        let said = parse(json!({"priority": -3, "user": "me", "cache_salt": "s"})).unwrap();
        let copy = said.of_a_copy();
        assert_eq!((copy.priority, &copy.cache_salt), (i64::MAX, &said.cache_salt));
        assert_ne!(copy.user, said.user);
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        for (field, value) in [
            ("priority", json!(1.5)),
            ("priority", json!("1")),
            ("user", json!(1)),
            ("cache_salt", json!("")),
        ] {
            let error = parse(json!({field: value})).unwrap_err();
            assert_eq!(error.to_json()["error"]["param"], field);
        }
    }
}
