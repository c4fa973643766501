//! gpt-oss over the API: thoughts, calls and answers of a tiny model with random weights, which writes anything.

use espalier_engine::VariantSource;
use espalier_model::{SynthShape, synthesize};
use serde_json::{Value, json};

use crate::host::{Answer, Host, eventually};

pub(crate) const PATH: &str = "/v1/chat/completions";
pub(crate) const OSS: &str = "oss";

fn host() -> Host {
    let host = Host::start();
    gpt_oss(&host);
    host
}

/// Loads a small gpt-oss with its whole vocabulary.
pub(crate) fn gpt_oss(host: &Host) {
    let shape = json!({
        "model_type": "gpt_oss", "vocab_size": 201_088, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "num_local_experts": 4,
        "num_experts_per_tok": 2, "torch_dtype": "bfloat16",
    });
    let path = host.path("oss");
    synthesize(&SynthShape::from_json(&shape.to_string()).unwrap(), &path, 3).unwrap();
    host.application.load(OSS, "original", &VariantSource::new(path)).unwrap();
}

fn tool(name: &str) -> Value {
    let parameters =
        json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    json!({"type": "function", "function": {"name": name, "description": "Looks.", "parameters": parameters}})
}

fn body(seed: u64) -> Value {
    json!({
        "model": OSS, "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "你好 🌳"}],
        "max_tokens": 40, "temperature": 1.0, "seed": seed,
    })
}

pub(crate) fn with(mut body: Value, fields: &[(&str, Value)]) -> Value {
    for (field, value) in fields {
        body[*field] = value.clone();
    }
    body
}

/// Puts a stream's deltas together into the message that the whole answer would have.
pub(crate) fn assemble(answer: &Answer) -> (Value, Value) {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let frames: Vec<&str> =
        answer.text.split("\n\n").filter_map(|frame| frame.strip_prefix("data: ")).collect();
    assert_eq!(frames.last(), Some(&"[DONE]"), "{}", answer.text);
    let (mut content, mut reasoning, mut calls, mut reason) =
        (String::new(), String::new(), Vec::<Value>::new(), Value::Null);
    for frame in &frames[..frames.len() - 1] {
        let chunk: Value = serde_json::from_str(frame).unwrap();
        let Some(choice) = chunk["choices"].get(0) else { continue };
        assert!(reason.is_null(), "a delta after the end: {chunk}");
        let delta = &choice["delta"];
        content.push_str(delta["content"].as_str().unwrap_or_default());
        reasoning.push_str(delta["reasoning_content"].as_str().unwrap_or_default());
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            if index == calls.len() {
                assert!(call["id"].as_str().unwrap().starts_with("call_"));
                calls.push(json!({"name": call["function"]["name"], "arguments": ""}));
            }
            let arguments = calls[index]["arguments"].as_str().unwrap().to_owned();
            calls[index]["arguments"] = (arguments + call["function"]["arguments"].as_str().unwrap()).into();
        }
        reason = choice["finish_reason"].clone();
    }
    (json!({"content": content, "reasoning": reasoning, "calls": calls}), reason)
}

/// The same of a whole answer.
pub(crate) fn parts(answer: &Value) -> (Value, Value) {
    let choice = &answer["choices"][0];
    let message = &choice["message"];
    let calls: Vec<_> = message["tool_calls"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|call| {
            assert_eq!(call["type"], "function");
            json!({"name": call["function"]["name"], "arguments": call["function"]["arguments"]})
        })
        .collect();
    let text = |field: &str| message[field].as_str().unwrap_or_default().to_owned();
    assert!(message["content"].is_string() || !calls.is_empty(), "{answer}");
    (
        json!({"content": text("content"), "reasoning": text("reasoning_content"), "calls": calls}),
        choice["finish_reason"].clone(),
    )
}

#[test]
fn whatever_the_model_writes_both_ways_of_answering_say_the_same() {
    let host = host();
    for seed in 0..6 {
        let fields = [
            ("tools", json!([tool("look")])),
            ("reasoning_effort", json!(["low", "medium", "high"][seed as usize % 3])),
            ("stop", json!(["the", " a"])),
        ];
        let body = with(body(seed), &fields[..seed as usize % 4]);
        let whole = host.post(PATH, &body).success();
        let usage = &whole["usage"];
        let reasoning = usage["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap();
        assert!(reasoning <= usage["completion_tokens"].as_u64().unwrap(), "{usage}");
        let streamed = host.post(PATH, &with(body, &[("stream", json!(true))]));
        assert_eq!(assemble(&streamed), parts(&whole), "{}", streamed.text);
    }
}

#[test]
fn a_stop_text_ends_the_answer_and_counts_as_a_stop() {
    let host = host();
    let (free, content) = (0..20)
        .find_map(|seed| {
            let answer = host.post(PATH, &body(seed)).success();
            let content = answer["choices"][0]["message"]["content"].as_str()?.to_owned();
            (answer["choices"][0]["finish_reason"] == "length" && content.chars().count() > 20)
                .then_some((seed, content))
        })
        .unwrap();
    let stop: String = content.chars().skip(10).take(3).collect();
    let series = |reason: &str| {
        let labels = format!(r#"finished_reason="{reason}",generation="2",model="{OSS}",variant="original""#);
        host.series(&format!("espalier_requests_total{{{labels}}}"))
    };
    let (stops, aborts) = (series("stop"), series("abort"));
    let stopped = host.post(PATH, &with(body(free), &[("stop", json!(stop))])).success();
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop", "{stopped}");
    assert_eq!(stopped["choices"][0]["message"]["content"], content[..content.find(&stop).unwrap()]);
    eventually(|| (series("stop") + series("abort") > stops + aborts).then_some(()));
    assert_eq!((series("stop"), series("abort")), (stops + 1.0, aborts));
}

#[test]
fn a_function_can_be_forced() {
    let host = host();
    let named = json!({"type": "function", "function": {"name": "look"}});
    let tools = json!([tool("look"), tool("other")]);
    let body = with(body(1), &[("tools", tools), ("tool_choice", named)]);
    let whole = host.post(PATH, &body).success();
    let message = &whole["choices"][0]["message"];
    assert_eq!(message["tool_calls"][0]["function"]["name"], "look", "{whole}");
    let streamed = host.post(PATH, &with(body, &[("stream", json!(true))]));
    assert_eq!(assemble(&streamed), parts(&whole));
}

#[test]
fn calls_and_results_are_taken_as_history() {
    let host = host();
    let call = json!({"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"city\":\"Köln\"}"}});
    let messages = json!([
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": null, "reasoning_content": "I look.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    ]);
    let with_history = with(body(2), &[("messages", messages.clone()), ("tools", json!([tool("look")]))]);
    let long = host.post(PATH, &with_history).success()["usage"]["prompt_tokens"].as_u64().unwrap();
    let mut short = messages;
    short[1]["reasoning_content"] = Value::Null;
    let without_thoughts = with(with_history, &[("messages", short)]);
    let short = host.post(PATH, &without_thoughts).success()["usage"]["prompt_tokens"].as_u64().unwrap();
    // The thoughts that led to a call stay in the prompt until the turn has its answer.
    assert!(long > short, "{long} {short}");
}

#[test]
fn efforts_that_the_model_does_not_have_are_refused() {
    let host = host();
    for effort in ["minimal", "low", "medium", "high"] {
        host.post(PATH, &with(body(0), &[("reasoning_effort", json!(effort)), ("max_tokens", json!(1))]))
            .success();
    }
    for (effort, code) in
        [("none", "unsupported_parameter"), ("xhigh", "unsupported_parameter"), ("x", "invalid_value")]
    {
        let answer = host.post(PATH, &with(body(0), &[("reasoning_effort", json!(effort))]));
        answer.is_refused(400, Some("reasoning_effort"), code);
    }
}
