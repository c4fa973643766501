//! The fields that both completion endpoints share: sampling, stop texts and the way the answer is delivered.

use std::ops::RangeInclusive;

use espalier_engine::{MAX_TOP_LOGPROBS, Penalties, SamplingParams};
use serde_json::Value;

use crate::api_error::ApiError;
use crate::fields::Fields;

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

/// Most choices in an answer, over all its prompts. Each is a sequence of its own in the engine.
pub const CHOICE_LIMIT: usize = 128;
/// Most stop texts in a request, as in OpenAI's reference.
const STOP_LIMIT: usize = 4;
/// Longest stop text in bytes: the detokenizer holds back that much of the output.
const STOP_BYTES: usize = 256;

/// Reads what chooses the next token: OpenAI's fields, and those that vLLM has beside them.
pub fn sampling(fields: &mut Fields) -> Result<SamplingParams, ApiError> {
    let temperature = number(fields, "temperature", 0.0..=2.0)?.unwrap_or(1.0);
    let top_p = above_zero(fields, "top_p", 1.0)?.unwrap_or(1.0);
    let seed = seed(fields)?;
    let top_k = top_k(fields)?;
    let min_p = number(fields, "min_p", 0.0..=1.0)?.unwrap_or_default();
    let penalties = Penalties {
        repetition: above_zero(fields, "repetition_penalty", 2.0)?.unwrap_or(1.0),
        presence: number(fields, "presence_penalty", -2.0..=2.0)?.unwrap_or_default(),
        frequency: number(fields, "frequency_penalty", -2.0..=2.0)?.unwrap_or_default(),
    };
    let logit_bias = logit_bias(fields)?;
    let params = SamplingParams::new(temperature, top_p, seed)?.with_top_k(top_k).with_min_p(min_p)?;
    Ok(params.with_penalties(penalties)?.with_logit_bias(logit_bias)?)
}

#[expect(clippy::cast_possible_truncation, reason = "all ranges are small, f32 is close enough for sampling")]
fn number(fields: &mut Fields, name: &str, range: RangeInclusive<f64>) -> Result<Option<f32>, ApiError> {
    Ok(fields.number(name, range)?.map(|number| number as f32))
}

fn above_zero(fields: &mut Fields, name: &str, most: f64) -> Result<Option<f32>, ApiError> {
    match number(fields, name, 0.0..=most)? {
        // Also what is too small for the sampler's numbers.
        Some(0.0) => Err(ApiError::field(fields.path(name), 0, format!("a number above 0, at most {most}"))),
        number => Ok(number),
    }
}

fn seed(fields: &mut Fields) -> Result<Option<u64>, ApiError> {
    let Some(value) = fields.take("seed") else { return Ok(None) };
    // Clients send signed and unsigned 64-bit seeds; both map to one bit pattern each.
    match (value.as_u64(), value.as_i64()) {
        (Some(seed), _) => Ok(Some(seed)),
        (None, Some(seed)) => Ok(Some(seed.cast_unsigned())),
        (None, None) => Err(ApiError::field(fields.path("seed"), value, "a 64-bit whole number")),
    }
}

/// vLLM's clients say "all" as 0 or as -1.
fn top_k(fields: &mut Fields) -> Result<usize, ApiError> {
    let Some(value) = fields.take("top_k") else { return Ok(0) };
    match value.as_i64() {
        Some(-1) => Ok(0),
        Some(count @ 0..) => Ok(usize::try_from(count).unwrap_or(usize::MAX)),
        _ => Err(ApiError::field(fields.path("top_k"), value, "a whole number, at least -1")),
    }
}

/// An object from token ids to numbers. Whether the vocabulary has the ids is known only once the model is.
fn logit_bias(fields: &mut Fields) -> Result<Vec<(u32, f32)>, ApiError> {
    let path = fields.path("logit_bias");
    let Some(value) = fields.take("logit_bias") else { return Ok(Vec::new()) };
    let Value::Object(biases) = value else {
        return Err(ApiError::field(path, value, "an object from token ids to numbers"));
    };
    biases
        .into_iter()
        .map(|(name, value)| {
            let Ok(token) = name.parse() else {
                return Err(ApiError::field(path.clone(), name, "token ids as names"));
            };
            match value.as_f64().filter(|bias| (-100.0..=100.0).contains(bias)) {
                #[expect(clippy::cast_possible_truncation, reason = "close enough for a logit")]
                Some(bias) => Ok((token, bias as f32)),
                None => Err(ApiError::field(format!("{path}.{name}"), value, "a number from -100 to 100")),
            }
        })
        .collect()
}

/// Reads a number of choices for each prompt.
pub fn choice_count(fields: &mut Fields, name: &str) -> Result<Option<usize>, ApiError> {
    let count = fields.integer(name, 1..=CHOICE_LIMIT as u64)?;
    Ok(count.map(|count| usize::try_from(count).unwrap_or(CHOICE_LIMIT)))
}

/// Reads how many alternatives are told with each token's log-probability.
pub fn alternatives(fields: &mut Fields, name: &str, most: u64) -> Result<Option<usize>, ApiError> {
    let count = fields.integer(name, 0..=most)?;
    Ok(count.map(|count| usize::try_from(count).unwrap_or(MAX_TOP_LOGPROBS)))
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
        assert_eq!(sampling(&mut empty).unwrap(), SamplingParams::new(1.0, 1.0, None).unwrap());
        assert!(stop(&mut empty).unwrap().is_empty());
        assert_eq!(delivery(&mut empty).unwrap(), Delivery::Whole);
    }

    #[test]
    fn seeds_of_both_signs_are_kept_apart() {
        assert_eq!(sampling(&mut fields(json!({"seed": -1}))).unwrap().seed(), Some(u64::MAX));
        assert_eq!(sampling(&mut fields(json!({"seed": 7}))).unwrap().seed(), Some(7));
        assert!(sampling(&mut fields(json!({"seed": 1.5}))).is_err());
    }

    #[test]
    fn every_field_reaches_the_sampler() {
        let asked = json!({
            "temperature": 0.5, "top_p": 0.25, "seed": 3, "top_k": 7, "min_p": 0.125, "repetition_penalty": 1.5,
            "presence_penalty": -1, "frequency_penalty": 2, "logit_bias": {"50": -100, "3": 0.5},
        });
        let penalties = Penalties { repetition: 1.5, presence: -1.0, frequency: 2.0 };
        let expected = SamplingParams::new(0.5, 0.25, Some(3)).unwrap().with_top_k(7);
        let expected = expected.with_min_p(0.125).unwrap().with_penalties(penalties).unwrap();
        let expected = expected.with_logit_bias(vec![(50, -100.0), (3, 0.5)]).unwrap();
        assert_eq!(sampling(&mut fields(asked)).unwrap(), expected);
        assert_eq!(sampling(&mut fields(json!({"top_k": -1}))).unwrap().top_k(), 0);
    }

    #[test]
    fn what_is_outside_its_range_is_named() {
        for (field, wrong, param) in [
            ("top_p", json!(0), "top_p"),
            ("top_k", json!(-2), "top_k"),
            ("top_k", json!(1.5), "top_k"),
            ("min_p", json!(1.1), "min_p"),
            ("repetition_penalty", json!(0), "repetition_penalty"),
            ("repetition_penalty", json!(1e-60), "repetition_penalty"),
            ("presence_penalty", json!(2.1), "presence_penalty"),
            ("frequency_penalty", json!("x"), "frequency_penalty"),
            ("logit_bias", json!([1]), "logit_bias"),
            ("logit_bias", json!({"x": 1}), "logit_bias"),
            ("logit_bias", json!({"-1": 1}), "logit_bias"),
            ("logit_bias", json!({"5": 101}), "logit_bias.5"),
        ] {
            let error = sampling(&mut fields(json!({ field: wrong }))).unwrap_err();
            assert_eq!(error.param(), Some(param), "{field}");
        }
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
