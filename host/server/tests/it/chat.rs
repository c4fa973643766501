//! `/v1/chat/completions`.

use serde_json::json;

use crate::host::{CONTEXT, Host, MODEL};

const PATH: &str = "/v1/chat/completions";

#[test]
fn a_conversation_is_answered() {
    let host = Host::start();
    let messages = json!([
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]},
    ]);
    let body = json!({"model": MODEL, "messages": messages, "max_tokens": 4, "temperature": 0});
    let answer = host.post(PATH, &body).success();
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["choices"][0]["message"]["role"], "assistant");
    assert!(answer["choices"][0]["message"]["content"].is_string());
    // The same conversation in the words of the template is the same prompt.
    let plain = json!([{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]);
    let body = json!({"model": MODEL, "messages": plain, "max_completion_tokens": 4, "temperature": 0});
    let again = host.post(PATH, &body).success();
    assert_eq!(answer["choices"], again["choices"]);
    for count in ["prompt_tokens", "completion_tokens", "total_tokens"] {
        assert_eq!(answer["usage"][count], again["usage"][count]);
    }
}

#[test]
fn without_a_limit_the_answer_may_fill_the_context() {
    let host = Host::start();
    let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "temperature": 0});
    let usage = host.post(PATH, &body).success()["usage"].clone();
    assert!(usage["total_tokens"].as_u64().unwrap() <= CONTEXT as u64);
    assert!(usage["completion_tokens"].as_u64().unwrap() > 0);
}
