//! The JSON that answers are made of, for whole answers and for chunks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use espalier_engine::GenerationId;
use serde_json::{Map, Value, json};

use crate::openai::delta::{ChoiceUsage, Delta};
use crate::openai::logprobs::{LogprobEntry, chat_logprobs, completion_logprobs};

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
    pub fn whole(&self, choices: Vec<Value>, usage: ChoiceUsage) -> Value {
        let mut body = self.envelope(match self.shape {
            Shape::Completion => "text_completion",
            Shape::Chat => "chat.completion",
        });
        body.insert("choices".into(), Value::Array(choices));
        body.insert("usage".into(), self.usage(usage));
        self.sign(&mut body);
        Value::Object(body)
    }

    /// One chunk. With `include_usage` every chunk has the field, and all but the last have `null` there.
    #[must_use]
    pub fn chunk(&self, choices: Vec<Value>, include_usage: bool, usage: Option<ChoiceUsage>) -> Value {
        let mut body = self.envelope(match self.shape {
            Shape::Completion => "text_completion",
            Shape::Chat => "chat.completion.chunk",
        });
        body.insert("choices".into(), Value::Array(choices));
        if include_usage {
            body.insert("usage".into(), usage.map_or(Value::Null, |usage| self.usage(usage)));
        }
        self.sign(&mut body);
        Value::Object(body)
    }

    /// The choice of a whole answer.
    #[must_use]
    pub fn choice(&self, index: usize, deltas: &[Delta]) -> Value {
        let (mut text, mut reasoning, mut calls, mut finish_reason) =
            (String::new(), String::new(), Vec::new(), Value::Null);
        let mut entries = Vec::new();
        for delta in deltas {
            match delta {
                Delta::Content { text: piece, logprobs } => {
                    text.push_str(piece);
                    entries.extend(logprobs);
                }
                Delta::Reasoning(piece) => reasoning.push_str(piece),
                Delta::ToolCall { id, name, .. } => calls.push((id, name, String::new())),
                Delta::Arguments { text, .. } => {
                    if let Some((.., arguments)) = calls.last_mut() {
                        arguments.push_str(text);
                    }
                }
                Delta::Finished(ending) => finish_reason = ending.reason.into(),
            }
        }
        let logprobs = self.logprobs(&entries);
        if self.shape == Shape::Completion {
            return json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason});
        }
        let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { text.into() };
        let mut message = json!({"role": "assistant", "content": content, "refusal": null});
        if let Value::Object(message) = &mut message {
            if !reasoning.is_empty() {
                message.insert("reasoning_content".into(), reasoning.into());
            }
            if !calls.is_empty() {
                let call = |(id, name, arguments): (&String, &String, String)| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
                message.insert("tool_calls".into(), calls.into_iter().map(call).collect());
            }
        }
        json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish_reason})
    }

    /// The first choice chunk of a chat: who speaks.
    #[must_use]
    pub fn opening(&self, index: usize) -> Value {
        json!({"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": null, "finish_reason": null})
    }

    /// A piece of a choice.
    #[must_use]
    pub fn piece(&self, index: usize, delta: &Delta) -> Value {
        let finish_reason = match delta {
            Delta::Finished(ending) => ending.reason.into(),
            _ => Value::Null,
        };
        let logprobs = match delta {
            Delta::Content { logprobs, .. } => self.logprobs(&logprobs.iter().collect::<Vec<_>>()),
            _ => Value::Null,
        };
        if self.shape == Shape::Completion {
            let text = if let Delta::Content { text, .. } = delta { text } else { "" };
            return json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason});
        }
        let delta = match delta {
            Delta::Content { text, .. } => json!({"content": text}),
            Delta::Reasoning(text) => json!({"reasoning_content": text}),
            Delta::ToolCall { index, id, name } => json!({"tool_calls": [{
                "index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""},
            }]}),
            Delta::Arguments { index, text } => {
                json!({"tool_calls": [{"index": index, "function": {"arguments": text}}]})
            }
            Delta::Finished(_) => json!({}),
        };
        json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason})
    }

    fn logprobs(&self, entries: &[&LogprobEntry]) -> Value {
        match self.shape {
            Shape::Completion => completion_logprobs(entries),
            Shape::Chat => chat_logprobs(entries),
        }
    }

    fn usage(&self, usage: ChoiceUsage) -> Value {
        let mut body = json!({
            "prompt_tokens": usage.prompt,
            "completion_tokens": usage.completion,
            "total_tokens": usage.prompt + usage.completion,
            "prompt_tokens_details": {"cached_tokens": usage.cached},
        });
        if let (Shape::Chat, Value::Object(body)) = (self.shape, &mut body) {
            let details = json!({"reasoning_tokens": usage.reasoning});
            body.insert("completion_tokens_details".into(), details);
        }
        body
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

/// Unique in this process by its counter, and between processes by its time.
fn unique_id(prefix: &str, microseconds: u128) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}-{microseconds:014x}{:06x}", COUNTER.fetch_add(1, Ordering::Relaxed) & 0xff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::delta::Ending;

    fn answer(shape: Shape) -> Answer {
        let generation = GenerationId { model: "m".into(), variant: "v".into(), number: 3 };
        Answer::new(shape, generation)
    }

    fn finished(reason: &'static str) -> Delta {
        let usage = ChoiceUsage { prompt: 2, cached: 1, completion: 3, reasoning: 1 };
        Delta::Finished(Ending { reason, usage })
    }

    #[test]
    fn an_answer_says_who_gave_it() {
        let answer = answer(Shape::Chat);
        let usage = ChoiceUsage { prompt: 2, cached: 1, completion: 3, reasoning: 1 };
        let deltas = [Delta::content("h".into()), Delta::content("i".into()), finished("stop")];
        let body = answer.whole(vec![answer.choice(0, &deltas)], usage);
        assert_eq!(body["model"], "m@v");
        assert_eq!(body["espalier"], json!({"variant": "v", "generation": 3}));
        assert_eq!(body["usage"]["total_tokens"], 5);
        assert_eq!(body["usage"]["prompt_tokens_details"]["cached_tokens"], 1);
        assert_eq!(body["usage"]["completion_tokens_details"]["reasoning_tokens"], 1);
        assert_eq!(
            body["choices"][0]["message"],
            json!({"role": "assistant", "content": "hi", "refusal": null})
        );
        assert_eq!(body["choices"][0]["finish_reason"], "stop");
        assert_eq!(body["object"], "chat.completion");
        assert!(body["system_fingerprint"].as_str().unwrap().ends_with("/m@v#3"));
    }

    #[test]
    fn thoughts_and_calls_have_fields_of_their_own() {
        let answer = answer(Shape::Chat);
        let call = |index, id: &str| Delta::ToolCall { index, id: id.into(), name: "f".into() };
        let arguments = |index, text: &str| Delta::Arguments { index, text: text.into() };
        let deltas = [
            Delta::Reasoning("hm".into()),
            call(0, "c0"),
            arguments(0, "{\"a\":"),
            arguments(0, "1}"),
            call(1, "c1"),
            finished("tool_calls"),
        ];
        let function = |id, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}});
        let choice = answer.choice(0, &deltas);
        let calls = json!([function("c0", "{\"a\":1}"), function("c1", "")]);
        let message = json!({"role": "assistant", "content": null, "refusal": null, "reasoning_content": "hm", "tool_calls": calls});
        assert_eq!(choice["message"], message);
        assert_eq!(answer.piece(0, &deltas[0])["delta"], json!({"reasoning_content": "hm"}));
        assert_eq!(answer.piece(0, &deltas[1])["delta"]["tool_calls"][0]["id"], "c0");
        assert_eq!(
            answer.piece(0, &deltas[3])["delta"]["tool_calls"][0],
            json!({"index": 0, "function": {"arguments": "1}"}})
        );
        assert_eq!(answer.piece(0, &deltas[5])["finish_reason"], "tool_calls");
    }

    #[test]
    fn usage_is_null_in_all_chunks_but_the_last() {
        let answer = answer(Shape::Completion);
        assert!(answer.chunk(vec![], false, None).get("usage").is_none());
        assert_eq!(answer.chunk(vec![], true, None)["usage"], Value::Null);
        assert_eq!(answer.chunk(vec![], true, Some(ChoiceUsage::default()))["usage"]["total_tokens"], 0);
    }

    #[test]
    fn ids_differ() {
        assert_ne!(unique_id("a", 1), unique_id("a", 1));
    }
}
