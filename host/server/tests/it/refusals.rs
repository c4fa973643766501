//! Requests that are refused: the status, the field and the code of each, and that the next request is served.

use serde_json::{Value, json};

use crate::host::{CONTEXT, Host, MODEL, Setup, eventually};

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";
const INVALID: &str = "invalid_value";
const UNSUPPORTED: &str = "unsupported_parameter";

fn completion(field: &str, value: Value) -> Value {
    let mut body = json!({"model": MODEL, "prompt": "four", "max_tokens": 2});
    body[field] = value;
    body
}

fn chat(field: &str, value: Value) -> Value {
    let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2});
    body[field] = value;
    body
}

#[test]
fn wrong_fields_of_a_completion_are_named() {
    let host = Host::start();
    for (field, value, param, code) in [
        ("max_tokens", json!(0), "max_tokens", INVALID),
        ("max_tokens", json!("5"), "max_tokens", INVALID),
        ("max_tokens", json!(1e30), "max_tokens", INVALID),
        ("temperature", json!(2.1), "temperature", INVALID),
        ("temperature", json!(true), "temperature", INVALID),
        ("top_p", json!(0), "top_p", INVALID),
        ("seed", json!("x"), "seed", INVALID),
        ("stop", json!([""]), "stop", INVALID),
        ("stop", json!(["a", "b", "c", "d", "e"]), "stop", INVALID),
        ("stream", json!(1), "stream", INVALID),
        ("stream_options", json!({}), "stream_options", INVALID),
        ("prompt", json!([]), "prompt", INVALID),
        ("prompt", Value::Null, "prompt", INVALID),
        ("prompt", json!([100_000]), "prompt[0]", INVALID),
        ("prompt", json!([[1], [2, 100_000]]), "prompt[1][1]", INVALID),
        ("model", json!(""), "model", INVALID),
        ("model", json!("a@b@c"), "model", INVALID),
        ("model", Value::Null, "model", INVALID),
        ("n", json!(0), "n", INVALID),
        ("best_of", json!(0), "best_of", INVALID),
        ("best_of", json!(129), "best_of", INVALID),
        ("guided_regex", json!("("), "guided_regex", INVALID),
        ("structured_outputs", json!({"json": {"type": "thing"}}), "structured_outputs.json", INVALID),
        ("guided_grammar", json!("start: nothing"), "guided_grammar", INVALID),
        ("guided_choice", json!([]), "guided_choice", INVALID),
        ("response_format", json!({"type": "json_object"}), "response_format", UNSUPPORTED),
        ("logprobs", json!(6), "logprobs", INVALID),
        ("suffix", json!("x"), "suffix", UNSUPPORTED),
        ("presence_penalty", json!(3), "presence_penalty", INVALID),
        ("repetition_penalty", json!(0), "repetition_penalty", INVALID),
        ("top_k", json!(-2), "top_k", INVALID),
        ("min_p", json!(2), "min_p", INVALID),
        ("min_tokens", json!(3), "min_tokens", INVALID),
        ("ignore_eos", json!(1), "ignore_eos", INVALID),
        ("logit_bias", json!({"1": 200}), "logit_bias.1", INVALID),
        ("logit_bias", json!({"100000": 2}), "logit_bias", INVALID),
        ("no_such_field", json!(1), "no_such_field", UNSUPPORTED),
        ("messages", json!([]), "messages", UNSUPPORTED),
    ] {
        host.post(COMPLETIONS, &completion(field, value)).is_refused(400, Some(param), code);
    }
    host.complete(MODEL).success();
}

#[test]
fn wrong_fields_of_a_chat_are_named() {
    let host = Host::start();
    for (field, value, param, code) in [
        ("messages", json!([]), "messages", INVALID),
        ("messages", json!([{"role": "function", "content": "x"}]), "messages[0].role", UNSUPPORTED),
        ("messages", json!([{"role": "tool", "content": "x"}]), "messages[0].tool_call_id", INVALID),
        (
            "messages",
            json!([{"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}]),
            "messages",
            UNSUPPORTED,
        ),
        ("tools", json!([{"type": "function"}]), "tools[0].function", INVALID),
        ("tools", json!([{"type": "function", "function": {"name": "f"}}]), "tools", UNSUPPORTED),
        ("tool_choice", json!("required"), "tool_choice", INVALID),
        ("response_format", json!({"type": "json"}), "response_format.type", INVALID),
        (
            "response_format",
            json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"uniqueItems": true}}}),
            "response_format.json_schema.schema",
            INVALID,
        ),
        ("logprobs", json!(1), "logprobs", INVALID),
        ("top_logprobs", json!(2), "top_logprobs", INVALID),
        ("n", json!(129), "n", INVALID),
        ("reasoning_effort", json!("low"), "reasoning_effort", UNSUPPORTED),
        ("reasoning_effort", json!("vast"), "reasoning_effort", INVALID),
        ("max_completion_tokens", json!(9), "max_tokens", INVALID),
        ("prompt", json!("x"), "prompt", UNSUPPORTED),
    ] {
        host.post(CHAT, &chat(field, value)).is_refused(400, Some(param), code);
    }
    host.complete(MODEL).success();
}

#[test]
fn values_that_ask_for_nothing_are_accepted() {
    let host = Host::start();
    for (field, value) in [
        ("n", json!(1)),
        ("best_of", json!(1)),
        ("guided_json", Value::Null),
        ("presence_penalty", json!(0)),
        ("frequency_penalty", json!(0.0)),
        ("logit_bias", json!({})),
        ("logprobs", Value::Null),
        ("suffix", Value::Null),
        ("user", json!("somebody")),
        ("stop", Value::Null),
        ("stream", json!(false)),
    ] {
        host.post(COMPLETIONS, &completion(field, value)).success();
    }
    for (field, value) in [
        ("tools", json!([])),
        ("response_format", json!({"type": "text"})),
        ("metadata", json!({"a": "b"})),
        ("store", json!(false)),
        ("logprobs", json!(false)),
        ("modalities", json!(["text"])),
    ] {
        host.post(CHAT, &chat(field, value)).success();
    }
}

#[test]
fn an_unknown_model_is_told_which_there_are() {
    let host = Host::start();
    for (address, known) in [("other", MODEL), ("tiny@nothing", "original")] {
        let answer = host.complete(address);
        answer.is_refused(404, Some("model"), "model_not_found");
        assert!(answer.message().contains(known), "{}", answer.text);
    }
}

#[test]
fn what_does_not_fit_into_the_context_is_refused_with_the_numbers() {
    let host = Host::start();
    let long = json!([{"role": "user", "content": "x".repeat(CONTEXT * 2)}]);
    for (path, body, param) in [
        (COMPLETIONS, completion("prompt", json!(vec![1; CONTEXT])), "prompt"),
        (COMPLETIONS, completion("prompt", json!("x".repeat(CONTEXT * 2))), "prompt"),
        (COMPLETIONS, completion("max_tokens", json!(CONTEXT)), "max_tokens"),
        (CHAT, chat("messages", long), "messages"),
        (CHAT, chat("max_tokens", json!(CONTEXT)), "max_completion_tokens"),
    ] {
        let answer = host.post(path, &body);
        answer.is_refused(400, Some(param), "context_length_exceeded");
        assert!(answer.message().contains(&CONTEXT.to_string()), "{}", answer.text);
    }
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let mut setup = Setup::default();
    setup.config.max_sequences = 1;
    setup.config.queue_limit = 1;
    let host = Host::with(setup);
    let body = json!({"model": MODEL, "prompt": vec!["x"; 64], "max_tokens": 200, "temperature": 0});
    let answer = host.post(COMPLETIONS, &body);
    answer.is_refused(429, None, "queue_full");
    assert_eq!(answer.header("retry-after"), "1");
    // What had been accepted of the refused request is cancelled and leaves its place.
    eventually(|| (host.complete(MODEL).status == 200).then_some(()));
}

#[test]
fn paths_and_methods_that_do_not_exist_are_refused() {
    let host = Host::start();
    host.get("/v1/nothing").is_refused(404, None, "not_found");
    let answer = host.get(COMPLETIONS);
    answer.is_refused(405, None, "method_not_allowed");
    assert_eq!(answer.header("allow"), "POST");
    host.get("/ui/nothing.js").is_refused(404, None, "not_found");
}
