//! What this server does with a field of OpenAI's requests, as data.
//!
//! The parser, the OpenAPI document and `docs/openai-compatibility.md` are all made from the tables of fields, so a field
//! cannot be documented as one thing and treated as another. A field that is in no table is refused as unknown.

use serde_json::Value;

use crate::api_error::{ApiError, ErrorKind};
use crate::fields::Fields;

/// What happens to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Does what OpenAI's reference says, but for what the note says.
    Implemented,
    /// Not implemented; these values (JSON texts) ask for nothing and are accepted.
    OnlyNeutral(&'static [&'static str]),
    /// For the caller's own bookkeeping: accepted with any value of its type, changes nothing, is kept nowhere.
    Bookkeeping,
    /// Known to OpenAI's reference and refused by name, unless `null`.
    Refused,
}

/// One field of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestField {
    /// Its name.
    pub name: &'static str,
    /// What happens to it.
    pub support: Support,
    /// Its JSON schema, as JSON text.
    pub schema: &'static str,
    /// Default, limits, or the difference from OpenAI's behaviour.
    pub note: &'static str,
}

/// An entry of a table.
pub(super) const fn field(
    name: &'static str,
    support: Support,
    schema: &'static str,
    note: &'static str,
) -> RequestField {
    RequestField { name, support, schema, note }
}

/// Takes out every field of `table` that is not implemented, refusing each value that asks for something.
pub fn take_unimplemented(fields: &mut Fields, table: &[RequestField]) -> Result<(), ApiError> {
    for entry in table {
        match entry.support {
            Support::Implemented => {}
            Support::OnlyNeutral(values) => {
                let Some(found) = fields.take(entry.name) else { continue };
                if !values.iter().any(|text| is_same(&found, text)) {
                    let expected = values.join(" or ");
                    let error = ApiError::field(
                        fields.path(entry.name),
                        found,
                        format!("{expected}: other values are not implemented"),
                    );
                    return Err(error.of_kind(ErrorKind::UnsupportedParameter));
                }
            }
            Support::Bookkeeping => {
                let Some(found) = fields.take(entry.name) else { continue };
                let (fits, expected) = if entry.schema.contains("object") {
                    (found.is_object(), "an object")
                } else {
                    (found.is_string(), "a string")
                };
                if !fits {
                    return Err(ApiError::field(fields.path(entry.name), found, expected));
                }
            }
            Support::Refused => {
                if fields.take(entry.name).is_some() {
                    let path = fields.path(entry.name);
                    let message = format!("{path} is not implemented by this server");
                    return Err(ApiError::new(ErrorKind::UnsupportedParameter, message).at(path));
                }
            }
        }
    }
    Ok(())
}

/// The names of a table, for the guess in "unknown field".
pub fn names(table: &'static [RequestField]) -> Vec<&'static str> {
    table.iter().map(|entry| entry.name).collect()
}

/// Numbers compare by value (`0`, `0.0`), everything else exactly.
fn is_same(found: &Value, text: &str) -> bool {
    let Ok(neutral) = serde_json::from_str::<Value>(text) else { return false };
    match (found.as_f64(), neutral.as_f64()) {
        (Some(found), Some(neutral)) => found.total_cmp(&neutral).is_eq() || (found == 0.0 && neutral == 0.0),
        _ => *found == neutral,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::openai::chat_fields::CHAT_FIELDS;
    use crate::openai::completion_fields::COMPLETION_FIELDS;

    #[test]
    fn schemas_and_neutral_values_are_json() {
        for entry in COMPLETION_FIELDS.iter().chain(CHAT_FIELDS) {
            serde_json::from_str::<Value>(entry.schema).unwrap();
            if let Support::OnlyNeutral(values) = entry.support {
                for value in values {
                    serde_json::from_str::<Value>(value).unwrap();
                }
            }
        }
    }

    #[test]
    fn neutral_values_pass_and_others_are_refused_by_name() {
        for (name, neutral, other) in [
            ("store", json!(false), json!(true)),
            ("metadata", json!({"a": "b"}), json!("x")),
            ("verbosity", json!(null), json!("low")),
        ] {
            let mut fields = Fields::of_body(json!({ name: neutral })).unwrap();
            take_unimplemented(&mut fields, CHAT_FIELDS).unwrap();
            fields.finish(&[]).unwrap();
            let mut fields = Fields::of_body(json!({ name: other })).unwrap();
            let error = take_unimplemented(&mut fields, CHAT_FIELDS).unwrap_err();
            assert_eq!(error.param(), Some(name));
        }
    }
}
