//! The grammar of a whole answer: the model's chat format around what the answer's text and its calls are kept to.
//!
//! Thoughts stay free, and so does whatever the request says nothing about; but an answer under a grammar is always well
//! formed. Where the request keeps nothing to anything there is no grammar at all.

use espalier_engine::{Constraint, EngineError, Generation, Grammar, Notation};
use espalier_model::Tokenizer;
use espalier_model::chat::{AnswerParser, FunctionTool, TaggedParser};
use serde_json::json;

use crate::api_error::{ApiError, ErrorKind};
use crate::openai::output_constraint::OutputConstraint;
use crate::openai::tools::{Requirement, ToolUse};

/// Any text, in Lark.
const FREE_TEXT: &str = "TEXT: /(.|\\n)+/\n";
/// What models write between the parts of an answer with tags.
const WHITE_SPACE: &str = "SPACE: /[ \\n\\r\\t]{1,8}/\n";

/// A grammar whose parts remember which field they come from.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerGrammar {
    frame: Option<String>,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
struct Part {
    /// Its name in the frame.
    name: String,
    field: String,
    notation: Notation,
}

impl AnswerGrammar {
    /// For an answer that is all text.
    #[must_use]
    pub fn of_text(text: &OutputConstraint) -> Self {
        Self { frame: None, parts: vec![text_part(text)] }
    }

    /// For a chat's answer, which `parser` is going to read.
    #[must_use]
    pub fn of_chat(
        tokenizer: &Tokenizer,
        parser: &AnswerParser,
        text: Option<&OutputConstraint>,
        tools: &ToolUse,
    ) -> Option<Self> {
        if text.is_none() && !tools.is_constrained() {
            return None;
        }
        let calls: Vec<Part> =
            tools.functions.iter().enumerate().map(|part| arguments(part, tools)).collect();
        // A text can't follow where a call is required.
        let text = text.filter(|_| tools.requirement == Requirement::Optional);
        match (parser, tools.forced()) {
            (AnswerParser::Plain, _) => text.map(Self::of_text),
            (AnswerParser::Harmony(_), Some(name)) => {
                // The prompt has opened the call.
                let at = tools.functions.iter().position(|function| function.name == name)?;
                Some(Self { frame: None, parts: calls.into_iter().skip(at).take(1).collect() })
            }
            (AnswerParser::Harmony(_), None) => {
                Some(Self { frame: Some(harmony(text.is_some(), tools)), parts: parts(text, calls) })
            }
            (AnswerParser::Tagged(parser), _) => {
                let frame = tagged(tokenizer, parser, text.is_some(), tools);
                Some(Self { frame: Some(frame), parts: parts(text, calls) })
            }
        }
    }

    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with which field.
    pub fn compile(&self, generation: &Generation) -> Result<Constraint, ApiError> {
        generation.constraint(&self.grammar()).map_err(|error| self.blame(generation, error))
    }

    fn grammar(&self) -> Grammar {
        match (&self.frame, self.parts.as_slice()) {
            (None, [only]) => Grammar::new(only.notation.clone()),
            (frame, parts) => Grammar::framed(
                frame.clone().unwrap_or_default(),
                parts.iter().map(|part| (part.name.clone(), part.notation.clone())).collect(),
            ),
        }
    }

    /// Says which field a grammar was refused for: that of the first part that is refused by itself, else the first.
    fn blame(&self, generation: &Generation, error: EngineError) -> ApiError {
        let alone = |part: &&Part| generation.constraint(&Grammar::new(part.notation.clone())).is_err();
        match (error, self.parts.iter().find(alone).or_else(|| self.parts.first())) {
            (EngineError::GrammarRefused { reason }, Some(part)) => {
                ApiError::new(ErrorKind::InvalidValue, format!("{}: {reason}", part.field))
                    .at(part.field.clone())
            }
            (error, _) => error.into(),
        }
    }
}

fn text_part(text: &OutputConstraint) -> Part {
    Part { name: "answer".to_owned(), field: text.field.clone(), notation: text.notation.clone() }
}

fn parts(text: Option<&OutputConstraint>, calls: Vec<Part>) -> Vec<Part> {
    text.map(text_part).into_iter().chain(calls).collect()
}

/// The arguments of a function are valid under its schema if it is strict, else they are an object.
fn arguments((index, function): (usize, &FunctionTool), tools: &ToolUse) -> Part {
    let schema = match &function.parameters {
        _ if !tools.strict.contains(&function.name) => json!({"type": "object"}),
        Some(parameters) => parameters.clone(),
        None => json!({"type": "object", "additionalProperties": false}),
    };
    Part {
        name: format!("arguments_{index}"),
        field: format!("tools[{index}].function.parameters"),
        notation: Notation::JsonSchema(schema),
    }
}

/// Alternatives of a rule.
fn any_of(alternatives: impl IntoIterator<Item = String>) -> String {
    alternatives.into_iter().collect::<Vec<_>>().join(" | ")
}

/// An answer behind `<|start|>assistant`: thoughts, then the final message or a call.
fn harmony(has_text: bool, tools: &ToolUse) -> String {
    let has_tools = !tools.functions.is_empty();
    let mut asides = vec!["thought".to_owned()];
    if has_tools {
        asides.push("preamble".to_owned());
        asides.extend(tools.parallel.then(|| "call".to_owned()));
    }
    let mut ends = Vec::new();
    if tools.requirement == Requirement::Optional {
        ends.push("final".to_owned());
    }
    ends.extend(has_tools.then(|| "call".to_owned()));
    let calls = tools.functions.iter().enumerate().map(|(index, function)| {
        let name = &function.name;
        format!(
            "(\" to=functions.{name}\" <|channel|> \"commentary\" | <|channel|> \"commentary to=functions.{name}\") \
             form? <|message|> @arguments_{index}"
        )
    });
    let mut frame = format!(
        "start: (({asides}) <|end|> <|start|> \"assistant\")* ({ends})\n\
         thought: <|channel|> \"analysis\" <|message|> TEXT?\n\
         preamble: <|channel|> \"commentary\" <|message|> TEXT?\n\
         final: <|channel|> \"final\" form? <|message|> {text}\n\
         form: \" \"? <|constrain|> \"json\"\n\
         {FREE_TEXT}",
        asides = any_of(asides),
        ends = any_of(ends),
        text = if has_text { "@answer" } else { "TEXT?" },
    );
    if has_tools {
        frame.push_str(&format!("call: {}\n", any_of(calls)));
    }
    frame
}

/// An answer with tags: a thought, if the model thinks, then text or calls.
fn tagged(tokenizer: &Tokenizer, parser: &TaggedParser, has_text: bool, tools: &ToolUse) -> String {
    let [think, end_think, call, end_call] =
        ["<think>", "</think>", "<tool_call>", "</tool_call>"].map(|tag| Tag::of(tokenizer, tag));
    let thought = if parser.is_in_reasoning() {
        "thought SPACE? "
    } else if parser.reads_reasoning() {
        "(SPACE? think thought SPACE?)? "
    } else {
        ""
    };
    let more = if tools.parallel { "(SPACE? call)*" } else { "" };
    let mut answers = Vec::new();
    match (tools.requirement == Requirement::Optional, has_text, tools.functions.is_empty()) {
        (true, true, true) => answers.push("@answer".to_owned()),
        (true, true, false) => answers.extend(["@answer".to_owned(), format!("call {more}")]),
        (true, false, _) if tools.parallel => answers.push("(prose arguments)* TEXT?".to_owned()),
        (true, false, _) => answers.extend(["prose arguments".to_owned(), "TEXT?".to_owned()]),
        (false, ..) => answers.push(format!("SPACE? call {more}")),
    }
    let calls = tools
        .functions
        .iter()
        .enumerate()
        .filter(|(_, function)| tools.forced().is_none_or(|forced| forced == function.name));
    let calls = calls.map(|(index, function)| {
        format!(
            "\"\\n{{\\\"name\\\": \\\"{}\\\", \\\"arguments\\\": \" @arguments_{index} \"}}\\n\" {}",
            function.name,
            end_call.written()
        )
    });
    let mut frame = format!("start: {thought}({})\n{FREE_TEXT}{WHITE_SPACE}", any_of(answers));
    frame.push_str(&format!("think: {}\n{}", think.written(), end_think.after_text("thought")));
    if !tools.functions.is_empty() {
        frame.push_str(&format!("call: {} arguments\n{}", call.written(), call.after_text("prose")));
        frame.push_str(&format!("arguments: {}\n", any_of(calls)));
    }
    frame
}

/// A tag of a vocabulary: in some it is a control token, in others text.
enum Tag {
    Control(u32),
    Text(&'static str),
}

impl Tag {
    fn of(tokenizer: &Tokenizer, tag: &'static str) -> Self {
        match tokenizer.token_id(tag).filter(|&id| tokenizer.is_special(id)) {
            Some(id) => Self::Control(id),
            None => Self::Text(tag),
        }
    }

    /// The tag in Lark.
    fn written(&self) -> String {
        match self {
            Self::Control(id) => format!("<[{id}]>"),
            Self::Text(tag) => format!("\"{tag}\""),
        }
    }

    /// A rule: text up to the tag, and the tag.
    fn after_text(&self, rule: &str) -> String {
        match self {
            Self::Control(_) => format!("{rule}: TEXT? {}\n", self.written()),
            // The shortest text that ends in the tag.
            Self::Text(tag) => format!("{rule}[lazy]: /(.|\\n)*/ \"{tag}\"\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use espalier_engine::ConstraintCompiler;
    use espalier_model::TokenizerFiles;
    use espalier_model::chat::harmony::{HarmonyParser, HarmonyTokens};

    use super::*;

    static VOCABULARY: LazyLock<(Tokenizer, ConstraintCompiler)> = LazyLock::new(|| {
        let tokenizer = Tokenizer::new(&TokenizerFiles::o200k_harmony().unwrap(), None, &[]).unwrap();
        let ends = ["<|return|>", "<|call|>"].map(|end| tokenizer.token_id(end).unwrap());
        let compiler = ConstraintCompiler::new(&tokenizer, tokenizer.vocab_size(), &ends).unwrap();
        (tokenizer, compiler)
    });

    fn tools(strict: &[&str], requirement: Requirement, parallel: bool) -> ToolUse {
        let schema =
            json!({"properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": false});
        let function = |name: &str| FunctionTool {
            name: name.to_owned(),
            description: None,
            parameters: Some(schema.clone()),
        };
        let strict = strict.iter().map(|&name| name.to_owned()).collect();
        ToolUse { functions: vec![function("f"), function("ff")], strict, requirement, parallel }
    }

    /// Checks answers against the grammar for a boolean, if there is to be a text, and `tools`.
    #[track_caller]
    fn assert_accepts(
        parser: &AnswerParser,
        has_text: bool,
        tools: &ToolUse,
        accepted: &[&str],
        refused: &[&str],
    ) {
        let (tokenizer, compiler) = &*VOCABULARY;
        let text = OutputConstraint {
            notation: Notation::JsonSchema(json!({"type": "boolean"})),
            field: "response_format".to_owned(),
        };
        let grammar =
            AnswerGrammar::of_chat(tokenizer, parser, Some(&text).filter(|_| has_text), tools).unwrap();
        let constraint = compiler.compile(&grammar.grammar()).unwrap();
        for (answers, expected) in [(accepted, true), (refused, false)] {
            for answer in answers {
                assert_eq!(
                    constraint.accepts(&tokenizer.encode(answer, true).unwrap()),
                    expected,
                    "{answer}"
                );
            }
        }
    }

    fn harmony_parser() -> AnswerParser {
        let tokenizer = &VOCABULARY.0;
        AnswerParser::Harmony(Box::new(HarmonyParser::new(tokenizer, HarmonyTokens::of(tokenizer).unwrap())))
    }

    fn tagged_parser(in_reasoning: bool) -> AnswerParser {
        AnswerParser::Tagged(Box::new(TaggedParser::new(&VOCABULARY.0, true, true, in_reasoning)))
    }

    const THOUGHT: &str = "<|channel|>analysis<|message|>Hm {}\n\nso.<|end|><|start|>assistant";
    const CALL: &str = "<|channel|>commentary to=functions.f <|constrain|>json<|message|>";

    #[test]
    fn without_anything_to_keep_to_there_is_no_grammar() {
        let free = tools(&[], Requirement::Optional, true);
        for parser in [AnswerParser::Plain, harmony_parser(), tagged_parser(true)] {
            assert_eq!(AnswerGrammar::of_chat(&VOCABULARY.0, &parser, None, &free), None);
        }
    }

    #[test]
    fn harmonys_final_message_is_kept_to_the_text() {
        let last = "<|channel|>final<|message|>true";
        let thinking = format!("{THOUGHT}{THOUGHT}{last}");
        let typed = "<|channel|>final <|constrain|>json<|message|>false";
        let wrong =
            ["true", "<|channel|>final<|message|>maybe", "<|channel|>analysis<|message|>true", THOUGHT];
        let called = format!("{CALL}{{}}");
        let none = ToolUse::default();
        assert_accepts(
            &harmony_parser(),
            true,
            &none,
            &[last, &thinking, typed],
            &[&wrong[..], &[&called]].concat(),
        );
        let offered = tools(&[], Requirement::Optional, true);
        let preamble = format!("<|channel|>commentary<|message|>I look.<|end|><|start|>assistant{called}");
        assert_accepts(&harmony_parser(), true, &offered, &[last, &called, &preamble], &wrong);
    }

    #[test]
    fn harmonys_calls_are_kept_to_their_schemas_and_made_where_they_are_required() {
        let good = format!("{THOUGHT}{CALL}{{\"n\": 2}}");
        let bad = format!("{CALL}{{\"n\": 3}}");
        let loose = "<|channel|>commentary to=functions.ff<|message|>{\"n\": 3}";
        let front = " to=functions.f<|channel|>commentary<|message|>{\"n\":1}";
        let text = format!("{THOUGHT}<|channel|>final<|message|>Anything.");
        let twice = format!("{good}<|end|><|start|>assistant{loose}");
        let parser = harmony_parser();
        let strict = |requirement, parallel| tools(&["f"], requirement, parallel);
        let optional = strict(Requirement::Optional, true);
        assert_accepts(&parser, false, &optional, &[&good, loose, front, &text, &twice], &[&bad]);
        assert_accepts(
            &parser,
            false,
            &strict(Requirement::Some, true),
            &[&good, &twice],
            &[&bad, &text, THOUGHT],
        );
        assert_accepts(&parser, false, &strict(Requirement::Some, false), &[&good, loose], &[&twice, &text]);
        // The prompt has opened the call of a function that is named.
        let named = strict(Requirement::Function("f".into()), true);
        assert_accepts(&parser, false, &named, &["{\"n\": 1}"], &["{\"n\": 3}", &good]);
    }

    #[test]
    fn a_text_behind_tags_is_kept_to() {
        let none = ToolUse::default();
        let thought = "Is it {true}? <b>\n</think>\n\ntrue";
        assert_accepts(
            &tagged_parser(true),
            true,
            &none,
            &[thought, "</think>false"],
            &["true", "</think>maybe"],
        );
        let opened = format!("<think>{thought}");
        assert_accepts(&tagged_parser(false), true, &none, &[&opened, "true"], &[thought, "<think>true"]);
    }

    #[test]
    fn calls_in_tags_are_kept_to_their_schemas_and_made_where_they_are_required() {
        let call = |name: &str, n: u32| {
            format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {{\"n\": {n}}}}}\n</tool_call>")
        };
        let (good, bad, loose) = (call("f", 1), call("f", 3), call("ff", 3));
        let twice = format!("{good}\n{loose}");
        let thinking = format!("<think>\nf or ff?\n</think>\n\n{good}");
        let prose = format!("I look <here>.\n{good}\nand there.");
        let parser = tagged_parser(false);
        let strict = |requirement, parallel| tools(&["f"], requirement, parallel);
        let optional = strict(Requirement::Optional, true);
        assert_accepts(&parser, false, &optional, &["Just text.", &good, &twice, &prose, &thinking], &[&bad]);
        let once = strict(Requirement::Optional, false);
        assert_accepts(&parser, false, &once, &["Just text.", &good, &loose], &[&twice, &bad]);
        assert_accepts(
            &parser,
            false,
            &strict(Requirement::Some, true),
            &[&good, &twice, &thinking],
            &[&bad, "x"],
        );
        let named = strict(Requirement::Function("f".into()), false);
        assert_accepts(&parser, false, &named, &[&good, &thinking], &[&loose, &twice, &bad]);
        let offered = tools(&[], Requirement::Optional, true);
        assert_accepts(&parser, true, &offered, &["true", &loose, &twice], &["Just text.", &prose]);
    }
}
