//! Streams: their frames, and that they say the same as whole answers.

use serde_json::{Value, json};

use crate::host::{Answer, Host, MODEL};

/// The JSON of each frame; checks the framing and the end.
pub(crate) fn chunks(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let mut frames: Vec<_> = answer.text.split("\n\n").filter(|frame| !frame.is_empty()).collect();
    assert_eq!(frames.pop(), Some("data: [DONE]"));
    frames.iter().map(|frame| serde_json::from_str(frame.strip_prefix("data: ").unwrap()).unwrap()).collect()
}

#[test]
fn a_streamed_completion_says_what_the_whole_one_does() {
    let host = Host::start();
    let mut body = json!({"model": MODEL, "prompt": ["four", "score"], "max_tokens": 10, "temperature": 0});
    let whole = host.post("/v1/completions", &body).success();
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let answer = host.post("/v1/completions", &body);
    assert_eq!(answer.header("x-espalier-variant"), "original");
    let mut chunks = chunks(&answer);
    let last = chunks.pop().unwrap();
    assert_eq!(last["usage"], whole["usage"]);
    assert_eq!(last["choices"], json!([]));
    let mut texts = [String::new(), String::new()];
    let mut reasons = [Value::Null, Value::Null];
    for chunk in &chunks {
        assert_eq!(chunk["usage"], Value::Null);
        assert_eq!(chunk["id"], last["id"]);
        assert_eq!(chunk["espalier"]["generation"], 1);
        let choice = &chunk["choices"][0];
        let index = usize::try_from(choice["index"].as_u64().unwrap()).unwrap();
        texts[index].push_str(choice["text"].as_str().unwrap());
        if !choice["finish_reason"].is_null() {
            reasons[index] = choice["finish_reason"].clone();
        }
    }
    for index in 0..2 {
        assert_eq!(whole["choices"][index]["text"], texts[index]);
        assert_eq!(whole["choices"][index]["finish_reason"], reasons[index]);
    }
}

#[test]
fn a_streamed_chat_opens_with_the_role() {
    let host = Host::start();
    let body = json!({
        "model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "temperature": 0,
        "stream": true,
    });
    let chunks = chunks(&host.post("/v1/chat/completions", &body));
    assert_eq!(chunks[0]["object"], "chat.completion.chunk");
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()));
    let last = chunks.last().unwrap();
    assert_eq!(last["choices"][0]["delta"], json!({}));
    assert!(last["choices"][0]["finish_reason"].is_string());
}

#[test]
fn a_refusal_comes_before_the_stream() {
    let host = Host::start();
    let body = json!({"model": "other", "prompt": "x", "stream": true});
    host.post("/v1/completions", &body).is_refused(404, Some("model"), "model_not_found");
}
