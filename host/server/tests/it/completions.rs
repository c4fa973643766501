//! `/v1/completions` and `/v1/models`.

use serde_json::{Value, json};

use crate::host::{Host, MODEL};

fn choices(host: &Host, prompt: &Value, tokens: u32) -> Value {
    let body = json!({"model": MODEL, "prompt": prompt, "max_tokens": tokens, "temperature": 0});
    host.post("/v1/completions", &body).success()["choices"].clone()
}

#[test]
fn an_answer_has_openais_shape_and_says_who_gave_it() {
    let host = Host::start();
    let answer = host.complete(MODEL);
    let body = answer.success();
    assert_eq!(body["object"], "text_completion");
    assert_eq!(body["model"], "tiny@original");
    assert!(body["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(body["choices"][0]["index"], 0);
    assert!(["stop", "length"].contains(&body["choices"][0]["finish_reason"].as_str().unwrap()));
    let usage = |field: &str| body["usage"][field].as_u64().unwrap();
    assert!(usage("prompt_tokens") >= 4);
    assert_eq!(usage("total_tokens"), usage("prompt_tokens") + usage("completion_tokens"));
    assert_eq!(body["espalier"], json!({"variant": "original", "generation": 1}));
    assert_eq!(answer.header("x-espalier-variant"), "original");
    assert_eq!(answer.header("x-espalier-generation"), "1");
    assert!(body["system_fingerprint"].as_str().unwrap().contains("tiny@original#1"));
}

#[test]
fn prompts_come_as_texts_and_as_token_ids() {
    let host = Host::start();
    let tokenizer = host.application.registry().generations()[0].tokenizer().as_ref().clone();
    let ids = |text: &str| tokenizer.encode(text, true).unwrap();
    let text = choices(&host, &json!("four"), 3);
    assert_eq!(choices(&host, &json!(ids("four")), 3), text);
    let both = choices(&host, &json!(["four", "score"]), 3);
    assert_eq!(both.as_array().unwrap().len(), 2);
    assert_eq!(both[0], text[0]);
    assert_eq!(both[1]["index"], 1);
    assert_eq!(choices(&host, &json!([ids("four"), ids("score")]), 3), both);
}

#[test]
fn echo_puts_the_prompt_first() {
    let host = Host::start();
    let body = json!({"model": MODEL, "prompt": "four", "max_tokens": 3, "temperature": 0, "echo": true});
    let echoed = host.post("/v1/completions", &body).success();
    let plain = choices(&host, &json!("four"), 3);
    assert_eq!(echoed["choices"][0]["text"], format!("four{}", plain[0]["text"].as_str().unwrap()));
}

#[test]
fn a_seed_fixes_the_text() {
    let host = Host::start();
    let complete = |seed: i64| {
        let body = json!({"model": MODEL, "prompt": "x", "max_tokens": 12, "temperature": 1.5, "seed": seed});
        host.post("/v1/completions", &body).success()["choices"][0]["text"].clone()
    };
    assert_eq!(complete(7), complete(7));
    assert_eq!(complete(-7), complete(-7));
    assert_ne!(complete(7), complete(8));
}

#[test]
fn what_chooses_the_tokens_chooses_them() {
    let host = Host::start();
    let complete = |fields: Value| {
        let mut body = json!({"model": MODEL, "prompt": "x", "max_tokens": 12, "seed": 5});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        host.post("/v1/completions", &body).success()["choices"][0]["text"].as_str().unwrap().to_owned()
    };
    let greedy = complete(json!({"temperature": 0}));
    assert_eq!(complete(json!({"temperature": 2, "top_k": 1})), greedy);
    assert_eq!(complete(json!({"temperature": 2, "min_p": 1})), greedy);
    assert_ne!(complete(json!({"temperature": 2, "top_k": -1})), greedy);
    let tokenizer = host.application.registry().generations()[0].tokenizer().as_ref().clone();
    let q = tokenizer.encode("q", false).unwrap()[0].to_string();
    assert_eq!(complete(json!({"temperature": 1, "logit_bias": {q.clone(): 100}})), "q".repeat(12));
    // Each q before costs the next one more than the bias gives in the end.
    let penalized = json!({"temperature": 0, "logit_bias": {q: 8}, "frequency_penalty": 2});
    let count = complete(penalized).matches('q').count();
    assert!((1..12).contains(&count), "{count}");
}

#[test]
fn a_completion_goes_on_where_that_is_asked_for() {
    let host = Host::start();
    let ends = host.application.registry().generations()[0].model().spec().eos.clone();
    let towards_the_end: serde_json::Map<_, _> =
        ends.iter().map(|end| (end.to_string(), json!(100))).collect();
    let tokens = |field: &str, value: Value| {
        let mut body = json!({"model": MODEL, "prompt": "x", "max_tokens": 9, "temperature": 0});
        body["logit_bias"] = Value::Object(towards_the_end.clone());
        body[field] = value;
        host.post("/v1/completions", &body).success()["usage"]["completion_tokens"].as_u64().unwrap()
    };
    assert_eq!(tokens("min_tokens", json!(0)), 1);
    assert_eq!(tokens("min_tokens", json!(4)), 5);
    assert_eq!(tokens("ignore_eos", json!(true)), 9);
}

#[test]
fn max_tokens_defaults_to_sixteen() {
    let host = Host::start();
    let body = host.post("/v1/completions", &json!({"model": MODEL, "prompt": "x", "seed": 1})).success();
    assert!(body["usage"]["completion_tokens"].as_u64().unwrap() <= 16);
}

#[test]
fn a_stop_text_ends_the_answer_before_it() {
    let host = Host::start();
    let whole = choices(&host, &json!("four"), 12)[0]["text"].as_str().unwrap().to_owned();
    let stop: String = whole.chars().skip(3).take(1).collect();
    assert!(!stop.is_empty(), "{whole:?}");
    let body = json!({"model": MODEL, "prompt": "four", "max_tokens": 12, "temperature": 0, "stop": stop});
    let stopped = host.post("/v1/completions", &body).success()["choices"][0].clone();
    assert_eq!(stopped["finish_reason"], "stop");
    assert_eq!(stopped["text"].as_str(), whole.split(&stop).next());
}

#[test]
fn models_and_variants_are_listed_and_found() {
    let host = Host::start();
    let list = host.get("/v1/models").success();
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
    assert_eq!(ids, [MODEL, "tiny@original"]);
    assert_eq!(host.get("/v1/models/tiny@original").success()["espalier"]["generation"], 1);
    assert_eq!(host.get("/v1/models/tiny").success()["espalier"]["default_variant"], "original");
    host.get("/v1/models/other").is_refused(404, Some("model"), "model_not_found");
}

#[test]
fn concurrent_requests_get_the_answers_they_would_get_alone() {
    let host = Host::start();
    let prompts: Vec<_> = (0..12).map(|index| json!(format!("prompt {index}"))).collect();
    let alone: Vec<_> = prompts.iter().map(|prompt| choices(&host, prompt, 8)).collect();
    let together: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> =
            prompts.iter().map(|prompt| scope.spawn(|| choices(&host, prompt, 8))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(alone, together);
}
