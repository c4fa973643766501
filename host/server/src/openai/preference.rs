//! What a client says for the router: the session that a request belongs to and the quality that it asks for.

use espalier_state::Digest;

use crate::api_error::ApiError;
use crate::fields::Fields;

/// What a router may go by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Preference {
    /// The first 64 bits of the SHA-256 of the session's name, so that no component learns the name.
    pub session: Option<u64>,
    /// 0 to 1.
    pub quality: Option<f32>,
}

impl Preference {
    /// Reads `session_id` and `quality`. Where there is no session, all requests of a `user` are one.
    pub fn parse(fields: &mut Fields, user: Option<&str>) -> Result<Self, ApiError> {
        let path = fields.path("session_id");
        let session = fields.string("session_id")?;
        if session.as_deref() == Some("") {
            return Err(ApiError::field(path, "\"\"", "a string of at least one character"));
        }
        #[expect(clippy::cast_possible_truncation, reason = "a number from 0 to 1")]
        let quality = fields.number("quality", 0.0..=1.0)?.map(|quality| quality as f32);
        // A user and a session of the same name are different sessions.
        let named = session.map(|session| format!("session {session}"));
        let named = named.or_else(|| user.map(|user| format!("user {user}")));
        Ok(Self { session: named.map(|name| first_bits(&name)), quality })
    }
}

fn first_bits(name: &str) -> u64 {
    let digits = Digest::of(name.as_bytes()).to_string();
    let first = digits.get(..16).unwrap_or_default();
    u64::from_str_radix(first, 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(body: Value, user: Option<&str>) -> Result<Preference, ApiError> {
        Preference::parse(&mut Fields::of_body(body)?, user)
    }

    #[test]
    fn a_session_is_named_by_itself_or_by_its_user() {
        let session = |body, user| parse(body, user).unwrap().session;
        assert_eq!(session(json!({}), None), None);
        let (a, b) = (json!({"session_id": "a"}), json!({"session_id": "b"}));
        assert_eq!(session(a.clone(), None), session(a.clone(), Some("me")));
        assert_ne!(session(a.clone(), None), session(b, None));
        assert_eq!(session(json!({}), Some("me")), session(json!({"quality": 1}), Some("me")));
        assert_ne!(session(json!({}), Some("a")), session(a, None));
        assert_eq!(parse(json!({"quality": 0.5}), None).unwrap().quality, Some(0.5));
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        for (field, value) in [
            ("quality", json!(1.5)),
            ("quality", json!("high")),
            ("session_id", json!(7)),
            ("session_id", json!("")),
        ] {
            let error = parse(json!({field: value}), None).unwrap_err();
            assert_eq!(error.to_json()["error"]["param"], field);
        }
    }
}
