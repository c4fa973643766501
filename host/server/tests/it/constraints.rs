//! Answers that are kept to a schema, an expression, a list or a grammar, over HTTP.

use serde_json::{Value, json};

use crate::host::{Host, MODEL};

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 4}, "tags": {"$ref": "#/$defs/tags"}},
        "required": ["name", "tags"],
        "additionalProperties": false,
        "$defs": {"tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 2}},
    })
}

fn completion(field: &str, value: Value) -> Value {
    json!({"model": MODEL, "prompt": "four score", "max_tokens": 220, "temperature": 1.5, "seed": 1, field: value})
}

fn chat(field: &str, value: Value) -> Value {
    json!({
        "model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 220, "temperature": 1.5,
        "seed": 2, field: value,
    })
}

/// Text and finish reason of an answer's first choice.
fn answer(host: &Host, path: &str, body: &Value) -> (String, String) {
    let choice = host.post(path, body).success()["choices"][0].clone();
    let text = choice["text"].as_str().or_else(|| choice["message"]["content"].as_str()).unwrap();
    (text.to_owned(), choice["finish_reason"].as_str().unwrap().to_owned())
}

#[track_caller]
fn assert_fits_schema(text: &str) {
    let found: Value = serde_json::from_str(text).unwrap();
    assert!(found["name"].as_str().unwrap().chars().count() <= 4, "{text}");
    let tags = found["tags"].as_array().unwrap();
    assert!((1..=2).contains(&tags.len()) && tags.iter().all(|tag| tag == "a" || tag == "b"), "{text}");
    assert_eq!(found.as_object().unwrap().len(), 2, "{text}");
}

#[test]
fn every_field_that_constrains_does() {
    let host = Host::start();
    let named = json!({"name": "x", "schema": schema(), "strict": true});
    for (path, body) in [
        (COMPLETIONS, completion("structured_outputs", json!({"json": schema()}))),
        (COMPLETIONS, completion("guided_json", json!(schema().to_string()))),
        (CHAT, chat("response_format", json!({"type": "json_schema", "json_schema": named}))),
        (CHAT, chat("structured_outputs", json!({"json": schema()}))),
    ] {
        let mut stopped = 0;
        for seed in 0..6 {
            let mut body = body.clone();
            body["seed"] = json!(seed);
            let (text, reason) = answer(&host, path, &body);
            if reason == "stop" {
                assert_fits_schema(&text);
                stopped += 1;
            }
        }
        assert!(stopped >= 3, "{body}");
    }
    let (text, _) = answer(&host, COMPLETIONS, &completion("guided_choice", json!(["north", "south"])));
    assert!(text == "north" || text == "south", "{text}");
    let (text, _) = answer(&host, CHAT, &chat("guided_regex", json!("[0-9]{4}-[0-9]{2}")));
    assert!(text.len() == 7 && text.as_bytes()[4] == b'-', "{text}");
    let grammar = "start: \"(\" NUMBER \")\"\nNUMBER: /[0-9]{1,3}/";
    let (text, _) = answer(&host, CHAT, &chat("structured_outputs", json!({"grammar": grammar})));
    assert!(text.starts_with('(') && text.ends_with(')'), "{text}");
    let (text, reason) = answer(&host, CHAT, &chat("response_format", json!({"type": "json_object"})));
    assert!(text.trim_start().starts_with('{'), "{text}");
    assert!(reason == "length" || serde_json::from_str::<Value>(&text).unwrap().is_object(), "{text}");
}

#[test]
fn a_constrained_answer_is_the_same_streamed_and_among_others() {
    let host = Host::start();
    let mut body = completion("guided_json", schema());
    body["n"] = json!(3);
    let whole = host.post(COMPLETIONS, &body).success();
    body["stream"] = json!(true);
    let streamed = host.post(COMPLETIONS, &body);
    let mut texts = vec![String::new(); 3];
    for frame in streamed.text.split("\n\n").filter_map(|frame| frame.strip_prefix("data: {")) {
        let chunk: Value = serde_json::from_str(&format!("{{{frame}")).unwrap();
        for choice in chunk["choices"].as_array().unwrap() {
            let index = usize::try_from(choice["index"].as_u64().unwrap()).unwrap();
            texts[index].push_str(choice["text"].as_str().unwrap());
        }
    }
    for (index, text) in texts.iter().enumerate() {
        assert_eq!(whole["choices"][index]["text"], *text);
        let alone = completion("guided_json", schema());
        let mut alone = alone;
        alone["seed"] = json!(1 + index);
        assert_eq!(answer(&host, COMPLETIONS, &alone).0, *text);
    }
}

#[test]
fn only_one_thing_constrains_an_answer() {
    let host = Host::start();
    let mut body = chat("guided_regex", json!("a"));
    body["response_format"] = json!({"type": "json_object"});
    host.post(CHAT, &body).is_refused(400, Some("guided_regex"), "invalid_value");
    let mut body = completion("guided_regex", json!("a"));
    body["structured_outputs"] = json!({"choice": ["a"]});
    host.post(COMPLETIONS, &body).is_refused(400, Some("structured_outputs.choice"), "invalid_value");
}

#[test]
fn the_best_of_several_are_answered() {
    let host = Host::start();
    let body = |n: u32, best_of: u32| {
        json!({
            "model": MODEL, "prompt": ["x", "four score"], "max_tokens": 6, "temperature": 1.0, "seed": 5, "logprobs": 0,
            "n": n, "best_of": best_of,
        })
    };
    let mean = |choice: &Value| {
        let scores = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        scores.iter().map(|score| score.as_f64().unwrap()).sum::<f64>() / scores.len() as f64
    };
    let all = host.post(COMPLETIONS, &body(6, 6)).success();
    let best = host.post(COMPLETIONS, &body(2, 6)).success();
    assert_eq!(best["usage"], all["usage"], "what isn't answered counts too");
    for prompt in 0..2 {
        let mut means: Vec<f64> =
            all["choices"].as_array().unwrap()[6 * prompt..][..6].iter().map(mean).collect();
        means.sort_by(|a, b| b.total_cmp(a));
        let kept = &best["choices"].as_array().unwrap()[2 * prompt..][..2];
        assert_eq!(kept.iter().map(mean).collect::<Vec<_>>(), means[..2]);
        assert_eq!(kept[1]["index"], 2 * prompt + 1);
    }
    let mut unscored = body(2, 6);
    unscored["logprobs"] = Value::Null;
    let unscored = host.post(COMPLETIONS, &unscored).success();
    for (choice, scored) in
        unscored["choices"].as_array().unwrap().iter().zip(best["choices"].as_array().unwrap())
    {
        assert_eq!((&choice["text"], &choice["logprobs"]), (&scored["text"], &Value::Null));
    }
}

#[test]
fn a_prompt_can_be_scored_without_a_completion() {
    let host = Host::start();
    let body = json!({
        "model": MODEL, "prompt": ["four score", "x y z"], "max_tokens": 0, "echo": true, "logprobs": 1, "temperature": 0,
    });
    let answer = host.post(COMPLETIONS, &body).success();
    assert_eq!(answer["usage"]["completion_tokens"], 0);
    let choice = &answer["choices"][0];
    assert_eq!(
        (choice["text"].as_str(), choice["finish_reason"].as_str()),
        (Some("four score"), Some("length"))
    );
    let scores = choice["logprobs"]["token_logprobs"].as_array().unwrap();
    assert!(scores[0].is_null() && scores[1..].iter().all(|score| score.as_f64().unwrap() <= 0.0));
    let mut longer = body.clone();
    longer["max_tokens"] = json!(1);
    let longer = host.post(COMPLETIONS, &longer).success();
    let longer = longer["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap().clone();
    assert_eq!(longer[..scores.len()], scores[..]);
}
