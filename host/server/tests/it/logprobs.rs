//! Log-probabilities of both endpoints, and several choices for one prompt.

use serde_json::{Value, json};

use crate::host::{Host, MODEL};
use crate::streaming::chunks;

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

fn list(value: &Value) -> Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("a list: {value}")).clone()
}

#[test]
fn a_completion_has_an_entry_for_each_token() {
    let host = Host::start();
    let body = json!({"model": MODEL, "prompt": "four", "max_tokens": 10, "temperature": 0, "logprobs": 2});
    let answer = host.post(COMPLETIONS, &body).success();
    let logprobs = &answer["choices"][0]["logprobs"];
    let tokens = list(&logprobs["tokens"]);
    assert_eq!(tokens.len() as u64, answer["usage"]["completion_tokens"].as_u64().unwrap());
    let scores = list(&logprobs["token_logprobs"]);
    for ((token, score), top) in tokens.iter().zip(&scores).zip(list(&logprobs["top_logprobs"])) {
        assert!(score.as_f64().unwrap() <= 0.0);
        assert_eq!(&top[token.as_str().unwrap()], score, "a greedy token is the most probable");
        assert!(top.as_object().unwrap().values().all(|other| other.as_f64() <= score.as_f64()));
    }
    assert!(list(&logprobs["text_offset"]).is_sorted_by_key(|offset| offset.as_u64()));
    // They are the model's, whatever the sampling makes of them.
    let mut cooled = body;
    cooled.as_object_mut().unwrap().extend([("temperature".into(), json!(1.7)), ("top_k".into(), json!(1))]);
    assert_eq!(&host.post(COMPLETIONS, &cooled).success()["choices"][0]["logprobs"], logprobs);
}

#[test]
fn streamed_entries_are_those_of_the_whole_answer() {
    let host = Host::start();
    let mut body = json!({
        "model": MODEL, "prompt": "four", "max_tokens": 10, "seed": 3, "logprobs": 1, "echo": true,
    });
    let whole = host.post(COMPLETIONS, &body).success()["choices"][0]["logprobs"].clone();
    body["stream"] = json!(true);
    let chunks_of_completion = chunks(&host.post(COMPLETIONS, &body));
    for field in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        let pieces = chunks_of_completion.iter().map(|chunk| &chunk["choices"][0]["logprobs"][field]);
        let streamed: Vec<Value> = pieces.filter(|piece| !piece.is_null()).flat_map(list).collect();
        assert_eq!(streamed, list(&whole[field]), "{field}");
    }
    let mut body = json!({
        "model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "seed": 3,
        "logprobs": true, "top_logprobs": 3,
    });
    let whole = host.post(CHAT, &body).success()["choices"][0].clone();
    let content = list(&whole["logprobs"]["content"]);
    let bytes = content.iter().flat_map(|entry| list(&entry["bytes"]));
    let bytes: Vec<u8> = bytes.map(|byte| u8::try_from(byte.as_u64().unwrap()).unwrap()).collect();
    assert_eq!(whole["message"]["content"], String::from_utf8_lossy(&bytes).as_ref());
    assert!(content.iter().all(|entry| list(&entry["top_logprobs"]).len() == 3));
    body["stream"] = json!(true);
    let chunks = chunks(&host.post(CHAT, &body));
    let pieces = chunks.iter().map(|chunk| &chunk["choices"][0]["logprobs"]["content"]);
    let streamed: Vec<Value> = pieces.filter(|piece| !piece.is_null()).flat_map(list).collect();
    assert_eq!(streamed, content);
}

#[test]
fn an_evaluation_harness_finds_the_scores_of_a_continuation() {
    let host = Host::start();
    let tokenizer = host.application.registry().generations()[0].tokenizer().as_ref().clone();
    let prompts: Vec<_> =
        ["four score", "and seven"].map(|text| tokenizer.encode(text, true).unwrap()).into();
    let body = json!({
        "model": MODEL, "prompt": prompts, "max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": true, "seed": 1234,
    });
    let choices = list(&host.post(COMPLETIONS, &body).success()["choices"]);
    assert_eq!(choices.len(), 2);
    for (index, (choice, prompt)) in choices.iter().zip(&prompts).enumerate() {
        assert_eq!(choice["index"], index);
        let (scores, tops) =
            (list(&choice["logprobs"]["token_logprobs"]), list(&choice["logprobs"]["top_logprobs"]));
        assert_eq!((scores.len(), tops.len()), (prompt.len() + 1, prompt.len() + 1));
        assert_eq!((&scores[0], &tops[0]), (&Value::Null, &Value::Null));
        for (score, top) in scores.iter().zip(&tops).skip(1) {
            let greatest =
                top.as_object().unwrap().values().filter_map(Value::as_f64).fold(f64::MIN, f64::max);
            assert!(score.as_f64().unwrap() <= greatest);
        }
    }
}

#[test]
fn choices_have_seeds_of_their_own_and_share_their_prompt() {
    let host = Host::start();
    let mut body = json!({"model": MODEL, "prompt": ["four", "score"], "max_tokens": 8, "seed": 5, "n": 3});
    let answer = host.post(COMPLETIONS, &body).success();
    let choices = list(&answer["choices"]);
    assert_eq!(
        choices.iter().map(|choice| choice["index"].as_u64().unwrap()).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4, 5]
    );
    assert_ne!(choices[0]["text"], choices[1]["text"]);
    let alone = |prompt: &str, seed: u64| {
        let body = json!({"model": MODEL, "prompt": prompt, "max_tokens": 8, "seed": seed});
        host.post(COMPLETIONS, &body).success()
    };
    assert_eq!(choices[1]["text"], alone("four", 6)["choices"][0]["text"]);
    assert_eq!(choices[5]["text"], alone("score", 7)["choices"][0]["text"]);
    let prompts =
        ["four", "score"].map(|prompt| alone(prompt, 5)["usage"]["prompt_tokens"].as_u64().unwrap());
    assert_eq!(answer["usage"]["prompt_tokens"], prompts.iter().sum::<u64>());
    body["stream"] = json!(true);
    let mut texts = vec![String::new(); 6];
    for chunk in chunks(&host.post(COMPLETIONS, &body)) {
        let choice = &chunk["choices"][0];
        texts[usize::try_from(choice["index"].as_u64().unwrap()).unwrap()]
            .push_str(choice["text"].as_str().unwrap());
    }
    assert_eq!(texts, choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect::<Vec<_>>());
    let chat = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "seed": 5, "n": 2});
    let choices = list(&host.post(CHAT, &chat).success()["choices"]);
    assert_eq!(choices.len(), 2);
    assert_ne!(choices[0]["message"], choices[1]["message"]);
}
