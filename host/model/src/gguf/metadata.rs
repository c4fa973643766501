//! The key/value part of a GGUF file, with typed access whose errors name the key.

use std::collections::HashMap;

use super::value::{Array, Value};
use crate::error::ModelError;

/// All keys of a file, in its order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    index: HashMap<String, usize>,
}

impl Metadata {
    /// Adds a key.
    ///
    /// # Errors
    /// It is there already.
    pub fn insert(&mut self, key: String, value: Value) -> Result<(), ModelError> {
        if self.index.insert(key.clone(), self.entries.len()).is_some() {
            return Err(ModelError::malformed(format!("metadata key {key}"), "it twice", "each key once"));
        }
        self.entries.push((key, value));
        Ok(())
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(*self.index.get(key)?).map(|(_, value)| value)
    }

    /// Keys and values in the file's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The text of a key, if it is there and a string.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// A string that must be there.
    pub(super) fn required_text(&self, key: &str) -> Result<&str, ModelError> {
        self.get(key).map_or_else(
            || Err(missing(key, "a string")),
            |value| match value {
                Value::String(text) => Ok(text.as_str()),
                other => Err(wrong(key, other, "a string")),
            },
        )
    }

    /// A whole number, if the key is there.
    pub(super) fn size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
        size.map(Some).ok_or_else(|| wrong(key, value, "a whole number"))
    }

    /// A whole number that must be there.
    pub(super) fn required_size(&self, key: &str) -> Result<usize, ModelError> {
        self.size(key)?.ok_or_else(|| missing(key, "a whole number"))
    }

    /// One number for each of `layers` layers: an array of them, or one that holds for all.
    pub(super) fn size_per_layer(&self, key: &str, layers: usize) -> Result<Option<Vec<usize>>, ModelError> {
        match self.get(key) {
            Some(value @ Value::Array(array)) => {
                let sizes: Option<Vec<usize>> = array
                    .to_u64()
                    .and_then(|sizes| sizes.into_iter().map(|size| size.try_into().ok()).collect());
                match sizes {
                    Some(sizes) if sizes.len() == layers => Ok(Some(sizes)),
                    _ => Err(wrong(
                        key,
                        value,
                        &format!("a whole number, or {layers} of them, one for each layer"),
                    )),
                }
            }
            _ => Ok(self.size(key)?.map(|size| vec![size; layers])),
        }
    }

    /// A floating-point number, if the key is there.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        match self.get(key) {
            None => Ok(None),
            // The shortest decimal that reads back as the same f32 is what the converter was given: 1e-5, not
            // 9.999999747378752e-6.
            Some(Value::F32(number)) => {
                Ok(Some(number.to_string().parse().unwrap_or_else(|_| f64::from(*number))))
            }
            Some(Value::F64(number)) => Ok(Some(*number)),
            Some(other) => Err(wrong(key, other, "a floating-point number")),
        }
    }

    /// A boolean, if the key is there.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(wrong(key, other, "a boolean")),
        }
    }

    /// A token id, if the key is there.
    pub(super) fn token(&self, key: &str) -> Result<Option<u32>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let token = value.as_u64().and_then(|token| u32::try_from(token).ok());
        token.map(Some).ok_or_else(|| wrong(key, value, "a token id"))
    }

    /// Strings that must be there.
    pub(super) fn strings(&self, key: &str) -> Result<&[String], ModelError> {
        match self.get(key) {
            Some(Value::Array(Array::String(strings))) => Ok(strings),
            Some(other) => Err(wrong(key, other, "an array of strings")),
            None => Err(missing(key, "an array of strings")),
        }
    }
}

fn missing(key: &str, expected: &str) -> ModelError {
    ModelError::missing(format!("metadata key {key}"), expected)
}

fn wrong(key: &str, found: &Value, expected: &str) -> ModelError {
    ModelError::malformed(format!("metadata key {key}"), found.kind(), expected)
}
