//! Answers with parts that are kept to something: the text, and the arguments of calls. The models have random weights; a
//! bias for the tokens that end things brings them to the point.

use espalier_engine::VariantSource;
use espalier_model::{SynthShape, synthesize};
use serde_json::{Value, json};

use crate::host::{Host, MODEL, Setup};
use crate::reasoning::{OSS, PATH, assemble, gpt_oss, parts, with};

const TAGGED: &str = "tagged";
/// Thoughts and calls in tags, which a vocabulary of bytes spells.
const TEMPLATE: &str = "{% if tools %}<tool_call>{% endif %}{% for message in messages %}{{ message['content'] }}\
    {% endfor %}{# </think> #}";

/// Both kinds of models that call, with room for long prompts.
fn host() -> Host {
    let mut setup = Setup::default();
    setup.config.max_model_len = Some(480);
    let host = Host::with(setup);
    gpt_oss(&host);
    let path = host.path(TAGGED);
    synthesize(&SynthShape::default(), &path, 4).unwrap();
    let file = path.join("tokenizer_config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    config["chat_template"] = json!(TEMPLATE);
    std::fs::write(&file, config.to_string()).unwrap();
    host.application.load(TAGGED, "original", &VariantSource::new(path)).unwrap();
    host
}

fn body(model: &str, seed: u64) -> Value {
    let bias = if model == OSS {
        // `<|end|>`, `<|return|>`, quotation mark, brace.
        json!({"200007": 20, "200002": 20, "1": 20, "92": 20})
    } else {
        // Quotation mark, brackets, the letter that tells `<tool_call>` from `<think>`, and the end.
        json!({"34": 20, "123": 20, "125": 20, "111": 20, "257": 20, "259": 20})
    };
    json!({
        "model": model, "messages": [{"role": "user", "content": "x"}], "max_tokens": 150, "temperature": 1.5,
        "seed": seed, "logit_bias": bias,
    })
}

fn schema() -> Value {
    json!({
        "type": "object", "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["n"],
        "additionalProperties": false,
    })
}

fn tool(name: &str, strict: bool) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": schema(), "strict": strict}})
}

#[track_caller]
fn assert_fits_schema(text: &str) {
    let found: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
    assert!(found["n"].as_u64().is_some_and(|n| (1..=9).contains(&n)), "{text}");
    assert_eq!(found.as_object().unwrap().len(), 1, "{text}");
}

/// The parts of the answers that ended in time, which are the same streamed and whole.
fn answers(host: &Host, model: &str, fields: &[(&str, Value)]) -> Vec<Value> {
    let mut answers = Vec::new();
    for seed in 0..4 {
        let body = with(body(model, seed), fields);
        let whole = parts(&host.post(PATH, &body).success());
        let streamed = host.post(PATH, &with(body, &[("stream", json!(true))]));
        assert_eq!(assemble(&streamed), whole);
        if whole.1 != "length" {
            answers.push(whole.0);
        }
    }
    assert!(!answers.is_empty(), "{model}: {fields:?}");
    answers
}

#[test]
fn the_text_after_the_thoughts_fits_the_schema() {
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema()}});
    let host = host();
    for model in [OSS, TAGGED] {
        for answer in answers(&host, model, &[("response_format", format.clone())]) {
            assert_fits_schema(answer["content"].as_str().unwrap());
            assert_eq!(answer["calls"], json!([]));
        }
    }
}

#[test]
fn a_required_call_is_made_and_its_arguments_fit() {
    let tools = json!([tool("loose", false), tool("tight", true)]);
    let host = host();
    for model in [OSS, TAGGED] {
        for parallel in [false, true] {
            let fields = [
                ("tools", tools.clone()),
                ("tool_choice", json!("required")),
                ("parallel_tool_calls", json!(parallel)),
            ];
            for answer in answers(&host, model, &fields) {
                let calls = answer["calls"].as_array().unwrap();
                assert!(if parallel { !calls.is_empty() } else { calls.len() == 1 }, "{answer}");
                for call in calls {
                    let arguments = call["arguments"].as_str().unwrap();
                    match call["name"].as_str().unwrap() {
                        "tight" => assert_fits_schema(arguments),
                        "loose" => assert!(serde_json::from_str::<Value>(arguments).unwrap().is_object()),
                        other => panic!("{other}"),
                    }
                }
            }
        }
        let named = json!({"type": "function", "function": {"name": "tight"}});
        for answer in answers(&host, model, &[("tools", tools.clone()), ("tool_choice", named)]) {
            assert_eq!(answer["calls"].as_array().unwrap().len(), 1, "{answer}");
            assert_eq!(answer["calls"][0]["name"], "tight");
            assert_fits_schema(answer["calls"][0]["arguments"].as_str().unwrap());
        }
    }
}

#[test]
fn what_is_wrong_with_a_function_is_said_of_it() {
    let host = host();
    let mut wrong = tool("wrong", true);
    wrong["function"]["parameters"] = json!({"type": "object", "properties": {"a": {"uniqueItems": true}}});
    let fields = [("tools", json!([tool("fine", true), wrong]))];
    let answer = host.post(PATH, &with(body(OSS, 0), &fields));
    answer.is_refused(400, Some("tools[1].function.parameters"), "invalid_value");
    assert!(answer.message().contains("uniqueItems"), "{}", answer.text);
    let fields = [("tools", json!([tool("fine", true)])), ("tool_choice", json!("required"))];
    let format = ("response_format", json!({"type": "json_object"}));
    let answer = host.post(PATH, &with(with(body(OSS, 0), &fields), &[format]));
    answer.is_refused(400, Some("response_format"), "invalid_value");
    // A model without calls in its format can't be kept to one.
    let answer = host.post(PATH, &with(body(MODEL, 0), &fields));
    answer.is_refused(400, Some("tools"), "unsupported_parameter");
}
