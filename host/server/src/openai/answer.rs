//! The JSON that answers are made of, for whole answers and for chunks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use espalier_engine::{FinishReason, GenerationId, Usage};
use serde_json::{Map, Value, json};

/// Which of the two endpoints an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `/v1/completions`.
    Completion,
    /// `/v1/chat/completions`.
    Chat,
}

/// What all parts of one answer share.
#[derive(Clone, Debug)]
pub struct Answer {
    shape: Shape,
    id: String,
    created: u64,
    generation: GenerationId,
}

impl Answer {
    /// A new answer of a generation.
    #[must_use]
    pub fn new(shape: Shape, generation: GenerationId) -> Self {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let prefix = match shape {
            Shape::Completion => "cmpl",
            Shape::Chat => "chatcmpl",
        };
        Self { shape, id: unique_id(prefix, created.as_micros()), created: created.as_secs(), generation }
    }

    /// The endpoint.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// The whole answer.
    #[must_use]
    pub fn whole(&self, choices: Vec<Value>, usage: Usage) -> Value {
        let mut body = self.envelope(match self.shape {
            Shape::Completion => "text_completion",
            Shape::Chat => "chat.completion",
        });
        body.insert("choices".into(), Value::Array(choices));
        body.insert("usage".into(), usage_json(usage));
        self.sign(&mut body);
        Value::Object(body)
    }

    /// One chunk. With `include_usage` every chunk has the field, and all but the last have `null` there.
    #[must_use]
    pub fn chunk(&self, choices: Vec<Value>, include_usage: bool, usage: Option<Usage>) -> Value {
        let mut body = self.envelope(match self.shape {
            Shape::Completion => "text_completion",
            Shape::Chat => "chat.completion.chunk",
        });
        body.insert("choices".into(), Value::Array(choices));
        if include_usage {
            body.insert("usage".into(), usage.map_or(Value::Null, usage_json));
        }
        self.sign(&mut body);
        Value::Object(body)
    }

    /// The choice of a whole answer.
    #[must_use]
    pub fn choice(&self, index: usize, text: &str, reason: FinishReason) -> Value {
        match self.shape {
            Shape::Completion => {
                json!({"index": index, "text": text, "logprobs": null, "finish_reason": reason.name()})
            }
            Shape::Chat => json!({
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": null},
                "logprobs": null,
                "finish_reason": reason.name(),
            }),
        }
    }

    /// The first choice chunk of a chat: who speaks.
    #[must_use]
    pub fn opening(&self, index: usize) -> Value {
        json!({"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": null, "finish_reason": null})
    }

    /// A piece of text.
    #[must_use]
    pub fn piece(&self, index: usize, text: &str) -> Value {
        match self.shape {
            Shape::Completion => {
                json!({"index": index, "text": text, "logprobs": null, "finish_reason": null})
            }
            Shape::Chat => {
                json!({"index": index, "delta": {"content": text}, "logprobs": null, "finish_reason": null})
            }
        }
    }

    /// The end of a choice.
    #[must_use]
    pub fn ending(&self, index: usize, reason: FinishReason) -> Value {
        match self.shape {
            Shape::Completion => {
                json!({"index": index, "text": "", "logprobs": null, "finish_reason": reason.name()})
            }
            Shape::Chat => {
                json!({"index": index, "delta": {}, "logprobs": null, "finish_reason": reason.name()})
            }
        }
    }

    /// Adds the headers that say who answered.
    pub fn sign_headers(&self, response: &mut Response) {
        let headers: &mut HeaderMap = response.headers_mut();
        // Names of variants are checked when they are loaded: they are ASCII.
        if let Ok(variant) = HeaderValue::from_str(&self.generation.variant) {
            headers.insert("x-espalier-variant", variant);
        }
        headers.insert("x-espalier-generation", HeaderValue::from(self.generation.number));
    }

    fn envelope(&self, object: &str) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("id".into(), json!(self.id));
        body.insert("object".into(), json!(object));
        body.insert("created".into(), json!(self.created));
        body.insert("model".into(), json!(format!("{}@{}", self.generation.model, self.generation.variant)));
        body
    }

    fn sign(&self, body: &mut Map<String, Value>) {
        let fingerprint = format!("espalier-{}/{}", env!("CARGO_PKG_VERSION"), self.generation);
        body.insert("system_fingerprint".into(), json!(fingerprint));
        body.insert(
            "espalier".into(),
            json!({"variant": self.generation.variant, "generation": self.generation.number}),
        );
    }
}

fn usage_json(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    })
}

/// Unique in this process by its counter, and between processes by its time.
fn unique_id(prefix: &str, microseconds: u128) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}-{microseconds:014x}{:06x}", COUNTER.fetch_add(1, Ordering::Relaxed) & 0xff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(shape: Shape) -> Answer {
        let generation = GenerationId { model: "m".into(), variant: "v".into(), number: 3 };
        Answer::new(shape, generation)
    }

    #[test]
    fn an_answer_says_who_gave_it() {
        let answer = answer(Shape::Chat);
        let usage = Usage { prompt_tokens: 2, completion_tokens: 3 };
        let body = answer.whole(vec![answer.choice(0, "hi", FinishReason::Stop)], usage);
        assert_eq!(body["model"], "m@v");
        assert_eq!(body["espalier"], json!({"variant": "v", "generation": 3}));
        assert_eq!(body["usage"]["total_tokens"], 5);
        assert_eq!(body["choices"][0]["message"]["content"], "hi");
        assert_eq!(body["object"], "chat.completion");
        assert!(body["system_fingerprint"].as_str().unwrap().ends_with("/m@v#3"));
    }

    #[test]
    fn usage_is_null_in_all_chunks_but_the_last() {
        let answer = answer(Shape::Completion);
        assert!(answer.chunk(vec![], false, None).get("usage").is_none());
        assert_eq!(answer.chunk(vec![], true, None)["usage"], Value::Null);
        assert_eq!(answer.chunk(vec![], true, Some(Usage::default()))["usage"]["total_tokens"], 0);
    }

    #[test]
    fn ids_differ() {
        assert_ne!(unique_id("a", 1), unique_id("a", 1));
    }
}
