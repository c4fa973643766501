//! Rendered conversations equal openai/harmony's, text and tokens.

use std::path::PathBuf;
use std::sync::OnceLock;

use espalier_model::chat::harmony::{
    Author, Content, DeveloperContent, HarmonyFormat, HarmonyMessage, HarmonyPiece, HarmonyTokens,
    ResponseFormat, SystemContent, ToolNamespace, pieces_for_completion, pieces_of_conversation, text_of,
};
use espalier_model::chat::{Conversation, FunctionTool, ReasoningEffort, ToolCall, Turn};
use espalier_model::{Tokenizer, TokenizerFiles};
use serde_json::{Value, json};

pub(crate) fn tokenizer() -> Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    let build = || Tokenizer::new(&TokenizerFiles::o200k_harmony().unwrap(), None, &[]).unwrap();
    TOKENIZER.get_or_init(build).clone()
}

pub(crate) fn golden(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/harmony").join(name);
    std::fs::read_to_string(path).unwrap().trim_end().to_owned()
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().map(str::to_owned)
}

fn functions(value: &Value) -> Vec<FunctionTool> {
    let function = |value: &Value| FunctionTool {
        name: text(value, "name").unwrap(),
        description: text(value, "description"),
        parameters: value.get("parameters").filter(|schema| !schema.is_null()).cloned(),
    };
    value["functions"].as_array().unwrap().iter().map(function).collect()
}

fn system(value: &Value) -> SystemContent {
    let namespace = |space: &Value| {
        let (name, description) = (text(space, "name").unwrap(), text(space, "description"));
        let functions = functions(space);
        ToolNamespace { name: &name, description: description.as_deref(), functions: &functions }.describe()
    };
    SystemContent {
        current_date: text(value, "date"),
        knowledge_cutoff: text(value, "cutoff").unwrap(),
        reasoning_effort: match value["effort"].as_str().unwrap() {
            "low" => ReasoningEffort::Low,
            "high" => ReasoningEffort::High,
            _ => ReasoningEffort::Medium,
        },
        channels: serde_json::from_value(value["channels"].clone()).unwrap(),
        tools: value["tools"].as_array().unwrap().iter().map(namespace).collect(),
        ..SystemContent::default()
    }
}

fn message(value: &Value) -> HarmonyMessage {
    let (author, content) = match value["author"].as_str().unwrap() {
        "system" => (Author::System, Content::System(system(&value["system"]))),
        "developer" => {
            let value = &value["developer"];
            let (instructions, functions) = (text(value, "instructions"), functions(value));
            let content = DeveloperContent { instructions, functions, response_formats: Vec::new() };
            (Author::Developer, Content::Developer(content))
        }
        "user" => (Author::User, Content::Text(text(value, "text").unwrap())),
        "assistant" => (Author::Assistant, Content::Text(text(value, "text").unwrap())),
        _ => (Author::Tool(text(value, "name").unwrap()), Content::Text(text(value, "text").unwrap())),
    };
    HarmonyMessage {
        author,
        content,
        recipient: text(value, "recipient"),
        channel: text(value, "channel"),
        content_type: text(value, "content_type"),
    }
}

/// The tokens of pieces, each text by itself.
fn tokens(pieces: &[HarmonyPiece]) -> Vec<u32> {
    let tokenizer = tokenizer();
    let special = HarmonyTokens::of(&tokenizer).unwrap();
    let tokens = |piece: &HarmonyPiece| match piece {
        HarmonyPiece::Text(text) => tokenizer.encode(text, false).unwrap(),
        HarmonyPiece::Token(token) => vec![special.id(*token)],
    };
    pieces.iter().flat_map(tokens).collect()
}

#[test]
fn conversations_render_as_in_openais_library() {
    let cases: Vec<Value> = serde_json::from_str(&golden("cases.json")).unwrap();
    assert_eq!(cases.iter().filter(|case| case["golden"] == true).count(), 18);
    assert!(cases.len() > 40);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let messages: Vec<_> = case["messages"].as_array().unwrap().iter().map(message).collect();
        let pieces = if case["completion"] == true {
            pieces_for_completion(&messages)
        } else {
            pieces_of_conversation(&messages)
        };
        let expected = if case["golden"] == true {
            golden(&format!("{name}.txt"))
        } else {
            text(&case, "text").unwrap()
        };
        let rendered = text_of(&pieces);
        assert!(rendered == expected, "{name}: rendered\n{rendered}\nexpected\n{expected}");
        let expected: Vec<u32> = serde_json::from_value(case["tokens"].clone()).unwrap();
        assert_eq!(tokens(&pieces), expected, "{name}");
    }
}

fn assistant(content: &str, reasoning: &str, tool_calls: Vec<ToolCall>) -> Turn {
    Turn::Assistant { content: content.into(), reasoning: Some(reasoning.into()), tool_calls }
}

#[test]
fn a_conversation_of_openais_api_becomes_messages() {
    let call = ToolCall { id: "call_1".into(), name: "f".into(), arguments: "{\"a\":1}".into() };
    let conversation = Conversation {
        turns: vec![
            Turn::System("Be kind.".into()),
            Turn::Developer("Be brief.".into()),
            Turn::User("one".into()),
            assistant("1", "first thought", Vec::new()),
            Turn::User("two".into()),
            assistant("wait", "second thought", vec![call]),
            Turn::Tool { name: "f".into(), call_id: "call_1".into(), content: "2".into() },
            Turn::System("Later.".into()),
        ],
        tools: vec![FunctionTool {
            name: "f".into(),
            description: None,
            parameters: Some(json!({"type": "object"})),
        }],
        forced_tool: None,
        reasoning_effort: Some(ReasoningEffort::High),
    };
    let text = text_of(&pieces_for_completion(&HarmonyFormat::messages(&conversation, "2026-01-02")));
    let expected = "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n\
        Knowledge cutoff: 2024-06\nCurrent date: 2026-01-02\n\nReasoning: high\n\n\
        # Valid channels: analysis, commentary, final. Channel must be included for every message.\n\
        Calls to these tools must go to the commentary channel: 'functions'.<|end|>\
        <|start|>developer<|message|># Instructions\n\nBe kind.\n\nBe brief.\n\n# Tools\n\n## functions\n\n\
        namespace functions {\n\ntype f = (_: {\n}) => any;\n\n} // namespace functions<|end|>\
        <|start|>user<|message|>one<|end|><|start|>assistant<|channel|>final<|message|>1<|end|>\
        <|start|>user<|message|>two<|end|>\
        <|start|>assistant<|channel|>analysis<|message|>second thought<|end|>\
        <|start|>assistant<|channel|>commentary<|message|>wait<|end|>\
        <|start|>assistant to=functions.f<|channel|>commentary <|constrain|>json<|message|>{\"a\":1}<|call|>\
        <|start|>functions.f to=assistant<|channel|>commentary<|message|>2<|end|>\
        <|start|>developer<|message|># Instructions\n\nLater.<|end|><|start|>assistant";
    assert_eq!(text, expected);
}

#[test]
fn all_thoughts_before_the_last_answer_are_dropped() {
    let turns = ["1", "2", "3"]
        .into_iter()
        .flat_map(|n| [Turn::User(n.into()), assistant(n, &format!("thought {n}"), Vec::new())])
        .chain([Turn::User("4".into())])
        .collect();
    let conversation = Conversation { turns, ..Conversation::default() };
    let text = text_of(&pieces_for_completion(&HarmonyFormat::messages(&conversation, "2026-01-02")));
    assert!(!text.contains("thought"), "{text}");
}

#[test]
fn response_formats_end_the_developer_message() {
    let format = ResponseFormat {
        name: "shopping_list".into(),
        description: Some("What to buy".into()),
        schema: json!({"type": "object"}),
    };
    let content = DeveloperContent {
        instructions: Some("Help.".into()),
        response_formats: vec![format],
        ..Default::default()
    };
    let text = text_of(&pieces_of_conversation(&[HarmonyMessage::new(
        Author::Developer,
        Content::Developer(content),
    )]));
    assert_eq!(
        text,
        "<|start|>developer<|message|># Instructions\n\nHelp.\n\n# Response Formats\n\n## shopping_list\n\n\
         // What to buy\n{\"type\":\"object\"}<|end|>"
    );
}

#[test]
fn a_forced_call_is_opened_by_the_prompt() {
    let tokenizer = tokenizer();
    let format = HarmonyFormat::of(&tokenizer).unwrap();
    let function = |name: &str| FunctionTool { name: name.into(), description: None, parameters: None };
    let conversation = Conversation {
        turns: vec![Turn::User("x".into())],
        tools: vec![function("f"), function("g")],
        forced_tool: Some("g".into()),
        reasoning_effort: None,
    };
    let prompt = format.prompt(&tokenizer, &conversation).unwrap();
    let text = tokenizer.decode(&prompt.tokens, false);
    let end = "<|start|>assistant to=functions.g<|channel|>commentary <|constrain|>json<|message|>";
    assert!(text.ends_with(end), "{text}");
    assert_eq!(prompt.opening.len(), 1);
}
