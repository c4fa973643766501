//! What a request asks for, checked as far as the host does not check it.

use espalier_http_endpoint::inference::{Prompt, Request, ServedVariant};
use serde_json::{Map, Value};

use crate::refused::Refused;

/// Answers side by side.
const VARIANTS: usize = 8;
const DEFAULT_MAX_TOKENS: u32 = 64;
const FIELDS: [&str; 5] = ["prompt", "variants", "max_tokens", "temperature", "seed"];

/// A request's body.
pub(crate) struct Asked {
    prompt: String,
    variants: Vec<String>,
    max_tokens: u32,
    temperature: Option<f32>,
    seed: Option<u64>,
}

impl Asked {
    /// Reads the JSON.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Refused> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| Refused::field("body", &error.to_string(), "a JSON object"))?;
        let Value::Object(mut fields) = value else {
            return Err(Refused::field("body", &value.to_string(), "a JSON object"));
        };
        let asked = Self {
            prompt: take(&mut fields, "prompt", "a text", text)?
                .ok_or_else(|| missing("prompt", "a text"))?,
            variants: variants(&mut fields)?,
            max_tokens: take(&mut fields, "max_tokens", "a whole number above 0", count)?
                .unwrap_or(DEFAULT_MAX_TOKENS),
            temperature: take(&mut fields, "temperature", "a number from 0 to 2", |value| {
                value.as_f64().map(|number| number as f32)
            })?,
            seed: take(&mut fields, "seed", "a whole number, 0 or above", Value::as_u64)?,
        };
        match fields.keys().next() {
            Some(unknown) => Err(Refused::unknown_field(unknown, &FIELDS)),
            None => Ok(asked),
        }
    }

    /// The address of each variant, among those that there are.
    pub(crate) fn addresses(&self, served: &[ServedVariant]) -> Result<Vec<String>, Refused> {
        let mut addresses = Vec::new();
        for name in &self.variants {
            let fitting = served.iter().filter(|variant| address(variant) == *name || variant.name == *name);
            let mut fitting: Vec<String> = fitting.map(address).collect();
            let found = match (fitting.pop(), fitting.is_empty()) {
                (Some(found), true) => found,
                (Some(_), false) => {
                    return Err(Refused::field(
                        "variants",
                        name,
                        "MODEL@VARIANT, since several models have it",
                    ));
                }
                (None, _) => {
                    let there: Vec<String> = served.iter().map(address).collect();
                    return Err(Refused::unknown_variant(name, &there.join(", ")));
                }
            };
            if addresses.contains(&found) {
                return Err(Refused::field("variants", name, "each variant once"));
            }
            addresses.push(found);
        }
        Ok(addresses)
    }

    /// What one variant is asked.
    pub(crate) fn request(&self, address: &str) -> Request {
        Request {
            model: address.to_owned(),
            prompt: Prompt::Text(self.prompt.clone()),
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            seed: self.seed,
        }
    }
}

fn address(variant: &ServedVariant) -> String {
    format!("{}@{}", variant.model, variant.name)
}

/// Takes a field out; `null` is the same as absent.
fn take<T>(
    fields: &mut Map<String, Value>,
    name: &str,
    expected: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Option<T>, Refused> {
    match fields.remove(name).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => {
            read(&value).map(Some).ok_or_else(|| Refused::field(name, &value.to_string(), expected))
        }
    }
}

fn variants(fields: &mut Map<String, Value>) -> Result<Vec<String>, Refused> {
    const EXPECTED: &str = "a list of 1 to 8 names of variants";
    let names = take(fields, "variants", EXPECTED, |value| {
        let list = value.as_array().filter(|list| (1..=VARIANTS).contains(&list.len()))?;
        list.iter().map(text).collect::<Option<Vec<String>>>()
    })?;
    names.ok_or_else(|| missing("variants", EXPECTED))
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn count(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0)
}

fn missing(field: &str, expected: &str) -> Refused {
    Refused::field(field, "nothing", expected)
}
