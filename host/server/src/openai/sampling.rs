//! The fields that both completion endpoints share: sampling, stop texts and the way the answer is delivered.

use serde_json::Value;

use crate::api_error::ApiError;
use crate::fields::Fields;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// Share of the probability mass that is kept, in (0, 1].
    pub top_p: f32,
    /// Seed of this request's random numbers.
    pub seed: Option<u64>,
}

/// How the answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// One JSON document at the end.
    Whole,
    /// Server-sent events, and a last chunk with the usage if it was asked for.
    Stream {
        /// `stream_options.include_usage`.
        include_usage: bool,
    },
}

/// Most stop texts in a request, as in OpenAI's reference.
const STOP_LIMIT: usize = 4;
/// Longest stop text in bytes: the detokenizer holds back that much of the output.
const STOP_BYTES: usize = 256;

/// Reads `temperature`, `top_p` and `seed`.
pub fn sampling(fields: &mut Fields) -> Result<Sampling, ApiError> {
    let temperature = fields.number("temperature", 0.0..=2.0)?.unwrap_or(1.0);
    let top_p = match fields.number("top_p", 0.0..=1.0)? {
        Some(0.0) => return Err(ApiError::field(fields.path("top_p"), 0, "a number above 0, at most 1")),
        Some(share) => share,
        None => 1.0,
    };
    let seed = match fields.take("seed") {
        None => None,
        // Clients send signed and unsigned 64-bit seeds; both map to one bit pattern each.
        Some(value) => match (value.as_u64(), value.as_i64()) {
            (Some(seed), _) => Some(seed),
            (None, Some(seed)) => Some(seed.cast_unsigned()),
            (None, None) => {
                return Err(ApiError::field(fields.path("seed"), value, "a 64-bit whole number"));
            }
        },
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "both are at most 2, where f32 is close enough for sampling"
    )]
    let sampling = Sampling { temperature: temperature as f32, top_p: top_p as f32, seed };
    Ok(sampling)
}

/// Reads `stop`.
pub fn stop(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let path = fields.path("stop");
    let texts = match fields.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => vec![Value::String(text)],
        Some(Value::Array(items)) if items.len() <= STOP_LIMIT => items,
        Some(Value::Array(items)) => {
            let found = format!("{} texts", items.len());
            return Err(ApiError::field(path, found, format!("at most {STOP_LIMIT} texts")));
        }
        Some(other) => return Err(ApiError::field(path, other, "a string or a list of strings")),
    };
    texts
        .into_iter()
        .map(|item| match item {
            Value::String(text) if !text.is_empty() && text.len() <= STOP_BYTES => Ok(text),
            other => {
                Err(ApiError::field(path.clone(), other, format!("a string of 1 to {STOP_BYTES} bytes")))
            }
        })
        .collect()
}

/// Reads `stream` and `stream_options`.
pub fn delivery(fields: &mut Fields) -> Result<Delivery, ApiError> {
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let Some(options) = fields.take("stream_options") else {
        return Ok(if stream { Delivery::Stream { include_usage: false } } else { Delivery::Whole });
    };
    if !stream {
        return Err(ApiError::field("stream_options", options, "no stream_options unless stream is true"));
    }
    let mut options = Fields::of("stream_options", options)?;
    let include_usage = options.boolean("include_usage")?.unwrap_or(false);
    if options.boolean("include_obfuscation")? == Some(true) {
        return Err(ApiError::field(
            "stream_options.include_obfuscation",
            true,
            "false: it is not implemented",
        ));
    }
    options.finish(&["include_usage"])?;
    Ok(Delivery::Stream { include_usage })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::of_body(value).unwrap()
    }

    #[test]
    fn defaults_are_openais() {
        let mut empty = fields(json!({}));
        assert_eq!(sampling(&mut empty).unwrap(), Sampling { temperature: 1.0, top_p: 1.0, seed: None });
        assert!(stop(&mut empty).unwrap().is_empty());
        assert_eq!(delivery(&mut empty).unwrap(), Delivery::Whole);
    }

    #[test]
    fn seeds_of_both_signs_are_kept_apart() {
        assert_eq!(sampling(&mut fields(json!({"seed": -1}))).unwrap().seed, Some(u64::MAX));
        assert_eq!(sampling(&mut fields(json!({"seed": 7}))).unwrap().seed, Some(7));
        assert!(sampling(&mut fields(json!({"seed": 1.5}))).is_err());
    }

    #[test]
    fn stop_is_one_text_or_up_to_four() {
        assert_eq!(stop(&mut fields(json!({"stop": "a"}))).unwrap(), ["a"]);
        assert_eq!(stop(&mut fields(json!({"stop": ["a", "b"]}))).unwrap(), ["a", "b"]);
        for wrong in
            [json!(["a", "b", "c", "d", "e"]), json!(""), json!([1]), json!(3), json!("x".repeat(257))]
        {
            assert_eq!(stop(&mut fields(json!({"stop": wrong}))).unwrap_err().param(), Some("stop"));
        }
    }

    #[test]
    fn stream_options_need_stream() {
        let asked = json!({"stream": true, "stream_options": {"include_usage": true}});
        assert_eq!(delivery(&mut fields(asked)).unwrap(), Delivery::Stream { include_usage: true });
        assert!(delivery(&mut fields(json!({"stream_options": {"include_usage": true}}))).is_err());
        let unknown = json!({"stream": true, "stream_options": {"x": 1}});
        assert_eq!(delivery(&mut fields(unknown)).unwrap_err().param(), Some("stream_options.x"));
    }
}
