//! Thoughts and calls between tags, in the answers of models with a template.

use espalier_model::chat::{
    AnswerEvent, AnswerParser, AnswerPart, ChatFormat, Conversation, FunctionTool, Malformation,
    TaggedParser, TemplateFormat, ToolCall, Turn,
};
use espalier_model::{ChatTemplate, Tokenizer};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use serde_json::json;

use crate::harmony_rendering::tokenizer;

fn parse(parser: &mut TaggedParser, ids: &[u32]) -> Vec<AnswerEvent> {
    let mut events: Vec<_> = ids.iter().flat_map(|&id| parser.push(id)).collect();
    events.extend(parser.finish());
    assert_eq!(events.iter().map(|event| event.tokens).sum::<usize>(), ids.len());
    events
}

/// Thoughts, content, and calls as `name(arguments)`.
fn summary(events: &[AnswerEvent]) -> (String, String, Vec<String>) {
    let (mut reasoning, mut content, mut calls) = (String::new(), String::new(), Vec::<String>::new());
    for event in events {
        match &event.part {
            AnswerPart::Reasoning(text) => reasoning.push_str(text),
            AnswerPart::Content(text) => content.push_str(text),
            AnswerPart::ToolCallStart { recipient, .. } => calls.push(recipient.clone()),
            AnswerPart::ToolCallArguments(text) => {
                let call = calls.last_mut().unwrap();
                call.push_str(&format!("({text})"));
            }
            _ => {}
        }
    }
    (reasoning, content, calls)
}

#[track_caller]
fn reads(in_reasoning: bool, text: &str, reasoning: &str, content: &str, calls: &[&str]) {
    let tokenizer = tokenizer();
    // By the vocabulary's tokens, and byte by byte: tags are found across any borders.
    let whole = tokenizer.encode(text, false).unwrap();
    let bytes: Vec<u32> = text
        .bytes()
        .map(|byte| (0..256).find(|&id| tokenizer.token_bytes(id) == Some(&[byte])).unwrap())
        .collect();
    for ids in [whole, bytes] {
        let events = parse(&mut TaggedParser::new(&tokenizer, true, true, in_reasoning), &ids);
        let (found_reasoning, found_content, found_calls) = summary(&events);
        assert_eq!((found_reasoning.as_str(), found_content.as_str()), (reasoning, content), "{text}");
        assert_eq!(found_calls, calls, "{text}");
    }
}

#[test]
fn in_an_answer_that_is_kept_to_a_form_tags_are_text_once_it_has_begun() {
    let tokenizer = tokenizer();
    let read = |text: &str, tools: bool| {
        let mut parser = TaggedParser::new(&tokenizer, true, tools, false).with_literal_content();
        summary(&parse(&mut parser, &tokenizer.encode(text, false).unwrap()))
    };
    let json = "{\"tag\": \"</think> <tool_call>\"} ";
    assert_eq!(read(&format!("<think>Hm.</think>\n{json}"), true), ("Hm.".into(), json.into(), vec![]));
    assert_eq!(read(json, false), (String::new(), json.into(), vec![]));
    let call = "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>";
    assert_eq!(read(&format!("<think></think>{call}"), true).2, ["f({})"]);
}

#[test]
fn thoughts_and_answers_are_apart() {
    reads(false, "<think>\nLet me see 💖.\n</think>\n\nFour.", "Let me see 💖.", "Four.", &[]);
    reads(true, "So 2+2\n</think>\n\nFour.", "So 2+2", "Four.", &[]);
    reads(true, "never ends", "never ends", "", &[]);
    reads(false, "a < b <thin </thinks> <think", "", "a < b <thin </thinks> <think", &[]);
    reads(false, "plain\n\ntext \n", "", "plain\n\ntext \n", &[]);
    reads(false, "<think></think>x", "", "x", &[]);
    reads(false, "x</think>y", "", "xy", &[]);
}

#[test]
fn calls_are_read() {
    let one = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1,  2]}}\n</tool_call>";
    reads(false, one, "", "", &["f({\"a\": [1,  2]})"]);
    reads(false, &format!("Looking.\n{one}\n{one}"), "", "Looking.", &["f({\"a\": [1,  2]})"; 2]);
    reads(false, &format!("<think>hm</think>{one}"), "hm", "", &["f({\"a\": [1,  2]})"]);
    reads(false, "<tool_call>{\"name\":\"f\",\"arguments\":\"{}\"}", "", "", &["f({})"]);
    for broken in ["<tool_call>{\"name\": 3}</tool_call>", "<tool_call>nonsense", "<tool_call>"] {
        reads(false, broken, "", broken, &[]);
    }
}

#[test]
fn any_tokens_are_an_answer_and_each_is_counted_once() {
    let tokenizer = tokenizer();
    let pieces =
        ["<think>", "</think>", "<tool_call>", "</tool_call>", "<", "think>", " \n", "{}", "x", "💖"]
            .map(|text| tokenizer.encode(text, false).unwrap());
    let mut random = Pcg64Mcg::seed_from_u64(8);
    for round in 0..5_000 {
        let mut ids = Vec::new();
        for _ in 0..random.random_range(0..40) {
            match random.random_range(0..8) {
                0 => ids.push(random.random_range(0..u32::MAX)),
                1 => ids.push(random.random_range(0..201_088)),
                2 => ids.extend(pieces[random.random_range(0..pieces.len())].first()),
                _ => ids.extend(&pieces[random.random_range(0..pieces.len())]),
            }
        }
        parse(&mut TaggedParser::new(&tokenizer, round % 2 == 0, round % 3 == 0, round % 4 == 0), &ids);
    }
}

fn format(source: &str, tokenizer: &Tokenizer) -> ChatFormat {
    let template = ChatTemplate::new(source, "", "").unwrap();
    ChatFormat::Template(Box::new(TemplateFormat::new(template, source, tokenizer)))
}

fn function() -> FunctionTool {
    FunctionTool { name: "f".into(), description: Some("Does it.".into()), parameters: None }
}

#[test]
fn templates_say_what_they_support() {
    let tokenizer = tokenizer();
    let qwen = format(include_str!("../golden/templates/qwen2.jinja"), &tokenizer);
    let deepseek = format(include_str!("../golden/templates/deepseek-r1.jinja"), &tokenizer);
    let smollm = format(include_str!("../golden/templates/smollm2.jinja"), &tokenizer);
    let efforts = format("{{ reasoning_effort }}", &tokenizer);
    assert!(qwen.supports_tools() && !deepseek.supports_tools() && !smollm.supports_tools());
    assert!(efforts.supports_reasoning_effort() && !qwen.supports_reasoning_effort());
    assert!(!qwen.supports_forced_tool());
    let asks = Conversation { turns: vec![Turn::User("x".into())], ..Conversation::default() };
    let prompt = deepseek.prompt(&tokenizer, &asks).unwrap();
    assert!(tokenizer.decode(&prompt.tokens, false).trim_end().ends_with("<think>"));
    let AnswerParser::Tagged(mut parser) = prompt.parser else { panic!("a splitter") };
    let events = parse(&mut parser, &tokenizer.encode("hm</think>yes", false).unwrap());
    assert_eq!(summary(&events), ("hm".to_owned(), "yes".to_owned(), vec![]));
    assert!(matches!(smollm.prompt(&tokenizer, &asks).unwrap().parser, AnswerParser::Plain));
    let with_tools = Conversation { tools: vec![function()], ..asks };
    assert!(smollm.prompt(&tokenizer, &with_tools).is_err());
}

#[test]
fn a_template_gets_tools_calls_and_results() {
    let tokenizer = tokenizer();
    let qwen = format(include_str!("../golden/templates/qwen2.jinja"), &tokenizer);
    let call = ToolCall { id: "c".into(), name: "f".into(), arguments: "{\"a\": 1}".into() };
    let conversation = Conversation {
        turns: vec![
            Turn::User("x".into()),
            Turn::Assistant { content: String::new(), reasoning: None, tool_calls: vec![call] },
            Turn::Tool { name: "f".into(), call_id: "c".into(), content: "42".into() },
        ],
        tools: vec![function()],
        ..Conversation::default()
    };
    let text = tokenizer.decode(&qwen.prompt(&tokenizer, &conversation).unwrap().tokens, false);
    let shown =
        json!({"name": "f", "description": "Does it.", "parameters": {"type": "object", "properties": {}}});
    for part in ["{\"name\": \"f\", \"arguments\": {\"a\": 1}}", "42", &format!("{}", shown["name"])] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn a_stray_end_of_thoughts_is_noticed() {
    let tokenizer = tokenizer();
    let mut parser = TaggedParser::new(&tokenizer, true, false, false);
    let events = parse(&mut parser, &tokenizer.encode("x</think>y", false).unwrap());
    assert!(events.iter().any(|event| event.problem == Some(Malformation::Stray)));
}
