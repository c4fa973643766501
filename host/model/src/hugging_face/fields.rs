//! Typed access to a JSON object's fields, with errors that name the field.

use serde_json::{Map, Value};

use crate::error::ModelError;

/// The fields of an object; `null` counts as absent, as it does in HF's configurations.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    /// What precedes a name in messages: `rope_scaling.`.
    prefix: &'a str,
}

impl<'a> Fields<'a> {
    pub(super) fn new(object: &'a Map<String, Value>) -> Self {
        Self { object, prefix: "" }
    }

    pub(super) fn get(self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn object(self, name: &str, prefix: &'a str) -> Result<Option<Fields<'a>>, ModelError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Self { object, prefix })),
            Some(other) => Err(self.wrong(name, other, "an object")),
        }
    }

    pub(super) fn size(self, name: &str) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
        size.map(Some).ok_or_else(|| self.wrong(name, value, "a whole number"))
    }

    pub(super) fn required_size(self, name: &str) -> Result<usize, ModelError> {
        self.size(name)?.ok_or_else(|| self.missing(name, "a whole number"))
    }

    pub(super) fn number(self, name: &str) -> Result<Option<f64>, ModelError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.wrong(name, value, "a number"))
    }

    pub(super) fn required_number(self, name: &str) -> Result<f64, ModelError> {
        self.number(name)?.ok_or_else(|| self.missing(name, "a number"))
    }

    pub(super) fn flag(self, name: &str) -> Result<Option<bool>, ModelError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(name, value, "true or false"))
    }

    pub(super) fn text(self, name: &str) -> Result<Option<&'a str>, ModelError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.wrong(name, value, "a string"))
    }

    pub(super) fn texts(self, name: &str) -> Result<Option<Vec<&'a str>>, ModelError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let texts = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        texts.map(Some).ok_or_else(|| self.wrong(name, value, "a list of strings"))
    }

    pub(super) fn sizes(self, name: &str) -> Result<Option<Vec<usize>>, ModelError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let size = |value: &Value| value.as_u64().and_then(|size| usize::try_from(size).ok());
        let sizes = value.as_array().and_then(|list| list.iter().map(size).collect());
        sizes.map(Some).ok_or_else(|| self.wrong(name, value, "a list of whole numbers"))
    }

    /// The names of all fields.
    pub(super) fn names(self) -> impl Iterator<Item = &'a str> {
        self.object.keys().map(String::as_str)
    }

    pub(super) fn label(self, name: &str) -> String {
        format!("field {}{name}", self.prefix)
    }

    pub(super) fn missing(self, name: &str, expected: &str) -> ModelError {
        ModelError::missing(self.label(name), expected)
    }

    fn wrong(self, name: &str, found: &Value, expected: &str) -> ModelError {
        ModelError::malformed(self.label(name), found, expected)
    }
}
