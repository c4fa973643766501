//! Reading a JSON object field by field, so that nothing in it goes unnoticed.
//!
//! A request type *takes* the fields it knows out of a [`Fields`] and then calls [`Fields::finish`], which refuses
//! whatever is left by name. A derive could say "unknown field" too; it could not say what was found, what was
//! expected and where, for each wrong value. `null` counts as absent throughout, because that is what the official
//! clients send for an argument that was not given.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::api_error::{ApiError, ErrorKind};

/// A JSON object that is being read, and the path at which it stands in the request.
#[derive(Debug)]
pub struct Fields {
    object: Map<String, Value>,
    path: String,
}

impl Fields {
    /// The body of a request, which must be an object.
    pub fn of_body(value: Value) -> Result<Self, ApiError> {
        match value {
            Value::Object(object) => Ok(Self { object, path: String::new() }),
            other => Err(ApiError::new(
                ErrorKind::InvalidJson,
                format!("the body is {}, expected a JSON object", json_type(&other)),
            )),
        }
    }

    /// A nested object at `path`.
    pub fn of(path: impl Into<String>, value: Value) -> Result<Self, ApiError> {
        let path = path.into();
        match value {
            Value::Object(object) => Ok(Self { object, path }),
            other => Err(ApiError::field(path, other, "an object")),
        }
    }

    /// The full path of a field, as it appears in `param`.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Takes a field out; `null` is the same as absent.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.object.shift_remove(name).filter(|value| !value.is_null())
    }

    /// Takes a string.
    pub fn string(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(ApiError::field(self.path(name), other, "a string")),
        }
    }

    /// Takes a string that must be there and must not be empty.
    pub fn required_string(&mut self, name: &str, expected: &str) -> Result<String, ApiError> {
        match self.string(name)? {
            Some(text) if !text.trim().is_empty() => Ok(text),
            Some(text) => Err(ApiError::field(self.path(name), text, expected)),
            None => Err(ApiError::missing(self.path(name), expected)),
        }
    }

    /// Takes a boolean.
    pub fn boolean(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(ApiError::field(self.path(name), other, "true or false")),
        }
    }

    /// Takes a number within `range`.
    pub fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ => Err(ApiError::field(
                self.path(name),
                value,
                format!("a number from {} to {}", range.start(), range.end()),
            )),
        }
    }

    /// Takes a whole number within `range`.
    pub fn integer(&mut self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_u64() {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let expected = if *range.end() == u64::MAX {
                    format!("a whole number, at least {}", range.start())
                } else {
                    format!("a whole number from {} to {}", range.start(), range.end())
                };
                Err(ApiError::field(self.path(name), value, expected))
            }
        }
    }

    /// Takes a list.
    pub fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => Err(ApiError::field(self.path(name), other, "a list")),
        }
    }

    /// What was not taken, to be read by other means.
    #[must_use]
    pub fn into_value(self) -> Value {
        Value::Object(self.object)
    }

    /// Refuses whatever was not taken, naming all of it.
    pub fn finish(self, known: &[&str]) -> Result<(), ApiError> {
        let mut left = self.object.keys();
        let Some(first) = left.next() else { return Ok(()) };
        let field = self.path(first);
        let others: Vec<_> = left.map(|name| self.path(name)).collect();
        let mut message = format!("{field} is not a field that this endpoint reads");
        if !others.is_empty() {
            message = format!("{field} (and {}) are not fields that this endpoint reads", others.join(", "));
        }
        if let Some(near) = nearest(first, known) {
            message.push_str(&format!("; did you mean {near}?"));
        }
        Err(ApiError::new(ErrorKind::UnsupportedParameter, message).at(field))
    }
}

/// The word a person uses for the type of a JSON value.
#[must_use]
pub const fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The known name within two edits of `name`, if there is one: most unknown fields are typing errors.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (edit_distance(name, candidate), *candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= 2 && candidate.len() > 3)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance, two rows at a time.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (row, l) in left.chars().enumerate() {
        let mut current = vec![row + 1];
        for ((r, diagonal), above) in right.iter().zip(&previous).zip(previous.iter().skip(1)) {
            let beside = current.last().copied().unwrap_or(row);
            current.push((diagonal + usize::from(l != *r)).min(above + 1).min(beside + 1));
        }
        previous = current;
    }
    previous.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn leftovers_are_named_with_a_guess() {
        let mut fields = Fields::of_body(json!({"model": "m", "temprature": 1, "foo": 2})).unwrap();
        fields.string("model").unwrap();
        let error = fields.finish(&["model", "temperature"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "temprature (and foo) are not fields that this endpoint reads; did you mean temperature?"
        );
        assert_eq!(error.param(), Some("temprature"));
        assert_eq!(error.kind(), ErrorKind::UnsupportedParameter);
    }

    #[test]
    fn wrong_types_and_ranges_are_refused() {
        let mut fields = Fields::of("a", json!({"b": "x", "n": 3.5, "t": 7, "i": -1})).unwrap();
        assert_eq!(fields.boolean("b").unwrap_err().to_string(), "a.b: found \"x\", expected true or false");
        assert_eq!(
            fields.integer("n", 1..=9).unwrap_err().to_string(),
            "a.n: found 3.5, expected a whole number from 1 to 9"
        );
        assert_eq!(
            fields.number("t", 0.0..=2.0).unwrap_err().to_string(),
            "a.t: found 7, expected a number from 0 to 2"
        );
        assert_eq!(
            fields.integer("i", 1..=u64::MAX).unwrap_err().to_string(),
            "a.i: found -1, expected a whole number, at least 1"
        );
        assert_eq!(Fields::of("a", json!(3)).unwrap_err().to_string(), "a: found 3, expected an object");
    }

    #[test]
    fn null_is_absent() {
        let mut fields = Fields::of_body(json!({"x": null})).unwrap();
        assert_eq!(fields.string("x").unwrap(), None);
        fields.finish(&[]).unwrap();
    }

    #[test]
    fn edit_distance_is_levenshtein() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("abc", "abc"), 0);
    }
}
