//! `espalier serve` without a model: the one inside the program answers.

use serde_json::json;

use crate::http;
use crate::running_host::RunningHost;

#[test]
fn it_is_listed_and_can_be_talked_to() {
    let folder = tempfile::tempdir().unwrap();
    let host = RunningHost::start(folder.path(), &[]);
    let models = http::get(&host.url("/v1/models")).success();
    let names: Vec<&str> =
        models["data"].as_array().unwrap().iter().filter_map(|model| model["id"].as_str()).collect();
    assert!(names.contains(&"tiny-gpt-oss"), "{models}");
    let question = json!({
        "model": "tiny-gpt-oss", "temperature": 0, "max_tokens": 200,
        "messages": [{ "role": "user", "content": "The people of the United States have the right to expect that the" }],
    });
    let answer = http::post(&host.url("/v1/chat/completions"), &question).success();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap_or_default();
    let letters =
        text.chars().filter(|character| character.is_ascii_alphabetic() || *character == ' ').count();
    assert!(text.split_whitespace().count() >= 5 && letters * 10 >= text.len() * 8, "{answer}");
}
