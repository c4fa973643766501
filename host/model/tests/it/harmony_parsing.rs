//! Any tokens behind `<|start|>assistant` are an answer.

use espalier_model::TextStream;
use espalier_model::chat::harmony::{HarmonyParser, HarmonyTokens};
use espalier_model::chat::{AnswerEvent, AnswerPart, EndOfAnswer, Malformation};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use crate::harmony_rendering::{golden, tokenizer};

fn parse_ids(ids: &[u32]) -> Vec<AnswerEvent> {
    let tokenizer = tokenizer();
    let mut parser = HarmonyParser::new(&tokenizer, HarmonyTokens::of(&tokenizer).unwrap());
    let mut events: Vec<_> = ids.iter().flat_map(|&id| parser.push(id)).collect();
    events.extend(parser.finish());
    assert_eq!(events.iter().map(|event| event.tokens).sum::<usize>(), ids.len(), "{ids:?}");
    events
}

fn ids(text: &str) -> Vec<u32> {
    tokenizer().encode(text, true).unwrap()
}

/// The parts as one line each, pieces of one kind joined.
fn parts(events: &[AnswerEvent]) -> Vec<String> {
    let mut parts: Vec<(&str, String)> = Vec::new();
    for event in events {
        let (kind, text) = match &event.part {
            AnswerPart::Framing => {
                // Two messages of one kind stay apart.
                parts.push(("", String::new()));
                continue;
            }
            AnswerPart::Reasoning(text) => ("analysis", text.clone()),
            AnswerPart::Commentary(text) => ("commentary", text.clone()),
            AnswerPart::Content(text) => ("final", text.clone()),
            AnswerPart::ToolCallStart { recipient, content_type } => {
                parts.push(("call", format!("{recipient} {}", content_type.as_deref().unwrap_or("-"))));
                continue;
            }
            AnswerPart::ToolCallArguments(text) => ("arguments", text.clone()),
            AnswerPart::ToolCallEnd => continue,
            AnswerPart::End(end) => ("end", format!("{end:?}")),
        };
        match parts.last_mut() {
            Some((last, joined)) if *last == kind => joined.push_str(&text),
            _ => parts.push((kind, text)),
        }
    }
    parts
        .into_iter()
        .filter(|(kind, _)| !kind.is_empty())
        .map(|(kind, text)| format!("{kind}: {text}"))
        .collect()
}

fn problems(events: &[AnswerEvent]) -> Vec<Malformation> {
    let mut problems: Vec<_> = events.iter().filter_map(|event| event.problem).collect();
    problems.dedup();
    problems
}

#[track_caller]
fn reads(text: &str, expected: &[&str], expected_problems: &[Malformation]) {
    let events = parse_ids(&ids(text));
    assert_eq!(parts(&events), expected, "{text}");
    assert_eq!(problems(&events), expected_problems, "{text}");
}

#[test]
fn well_formed_answers_are_read() {
    reads(
        "<|channel|>analysis<|message|>Simple arithmetic.<|end|><|start|>assistant<|channel|>final<|message|>2 + 2 = 4.<|return|>",
        &["analysis: Simple arithmetic.", "final: 2 + 2 = 4.", "end: Return"],
        &[],
    );
    for header in [
        "<|channel|>commentary to=functions.get_weather <|constrain|>json",
        "<|channel|>commentary to=functions.get_weather<|constrain|>json",
        " to=functions.get_weather<|channel|>commentary <|constrain|>json",
        " to=functions.get_weather<|channel|>commentary<|constrain|>json",
        "<|channel|>commentary to=functions.get_weather json",
    ] {
        reads(
            &format!("{header}<|message|>{{\"city\": \"北京\"}}<|call|>"),
            &["call: functions.get_weather json", "arguments: {\"city\": \"北京\"}", "end: Call"],
            &[],
        );
    }
    reads(
        "<|channel|>analysis<|message|>Plan.<|end|><|start|>assistant<|channel|>commentary<|message|>First I look.<|end|>\
         <|start|>assistant<|channel|>commentary to=functions.f<|message|>{}<|call|>",
        &[
            "analysis: Plan.",
            "commentary: First I look.",
            "call: functions.f -",
            "arguments: {}",
            "end: Call",
        ],
        &[],
    );
}

#[test]
fn openais_own_answers_are_read() {
    let numbers = |name: &str| {
        golden(name).split_whitespace().map(|number| number.parse().unwrap()).collect::<Vec<u32>>()
    };
    let events = parse_ids(&numbers("test_simple_reasoning_response.txt"));
    assert_eq!(
        parts(&events)[0],
        "analysis: User asks: \"What is 2 + 2?\" Simple arithmetic. Provide answer."
    );
    // This file has `<|return|>` between its messages: what follows it isn't part of the answer.
    assert_eq!(parts(&events)[1..], ["end: Return"]);
    reads(
        &golden("test_streamable_parser.txt")
            .replace("<|end|><|start|>browser.search to=assistant<|channel|>commentary", ""),
        &[
            concat!(
                "analysis: User asks \"Who is the current US president?\" It's 2025, presumably current president is Joe ",
                "Biden? Actually as of 2025-07-28, there was a 2024 election. In 2024, President is probably President Biden ",
                "still? But w\ne need up to date info. Let's browse to confirm."
            ),
            "call: browser.search code",
            "arguments: {\"query\": \"current US president July 2025\", \"topn\": 10, \"source\": \"news\"}",
            "end: Call",
        ],
        &[Malformation::AfterEnd],
    );
}

#[test]
fn malformed_answers_are_text_with_a_warning() {
    use Malformation as M;
    for (text, expected, problems) in [
        ("Hello there!", vec!["final: Hello there!"], vec![M::MissingMessage]),
        ("<|channel|>commentary Hello<|end|>", vec!["commentary: Hello"], vec![M::MissingMessage]),
        (
            "<|channel|>analysis\nLet me see.\nYes.",
            vec!["analysis: Let me see.\nYes."],
            vec![M::MissingMessage],
        ),
        ("<|message|>Hi<|return|>", vec!["final: Hi", "end: Return"], vec![M::MissingChannel]),
        (
            "<|channel|>poetry<|message|>Hi<|return|>",
            vec!["final: Hi", "end: Return"],
            vec![M::UnknownChannel],
        ),
        (
            "<|channel|>final<|message|>Hi<|channel|>analysis<|message|>hm<|end|>",
            vec!["final: Hi", "analysis: hm"],
            vec![M::MissingEnd],
        ),
        (
            "<|channel|>final<|message|>a<|message|>b<|constrain|>c<|return|>",
            vec!["final: a", "final: b", "final: c", "end: Return"],
            vec![M::Stray],
        ),
        (
            "<|channel|>final<|message|>a<|end|>b<|start|>user<|channel|>final<|message|>c",
            vec!["final: a", "final: b", "final: c"],
            vec![M::MissingStart, M::ForeignAuthor],
        ),
        (
            "<|channel|>commentary to=functions.a/b<|message|>{}<|call|>",
            vec!["analysis: {}", "end: Call"],
            vec![M::InvalidRecipient],
        ),
        ("<|channel|>analysis<|return|>", vec!["end: Return"], vec![M::MissingMessage]),
        ("<|return|>more<|end|>", vec!["end: Return"], vec![M::AfterEnd]),
        ("<|endoftext|>", vec!["end: EndOfText"], vec![]),
        ("", vec![], vec![]),
    ] {
        let events = parse_ids(&ids(text));
        assert_eq!(parts(&events), expected, "{text}");
        let mut found = self::problems(&events);
        found.dedup();
        assert!(problems.iter().all(|problem| found.contains(problem)), "{text}: {found:?}");
        assert_eq!(found.is_empty(), problems.is_empty(), "{text}: {found:?}");
    }
}

#[test]
fn a_header_without_end_becomes_text_before_it_is_long() {
    let words = "word ".repeat(500);
    let text = format!("<|channel|>final {words}");
    let tokenizer = tokenizer();
    let mut parser = HarmonyParser::new(&tokenizer, HarmonyTokens::of(&tokenizer).unwrap());
    let ids = ids(&text);
    let first = ids.iter().position(|&id| !parser.push(id).is_empty()).unwrap();
    assert!(first < 100, "{first}");
    assert_eq!(parts(&parse_ids(&ids)), [format!("final: {words}")]);
}

#[test]
fn characters_of_several_tokens_wait_for_the_last() {
    let heart = tokenizer().encode("💖", false).unwrap();
    assert!(heart.len() > 1);
    let mut answer = ids("<|channel|>final<|message|>");
    answer.extend(&heart);
    assert_eq!(parts(&parse_ids(&answer)), ["final: 💖"]);
    // Cut off in the middle, and not mixed with the next message.
    answer.pop();
    answer.extend(ids("<|end|><|start|>assistant<|channel|>final<|message|>x<|return|>"));
    assert_eq!(parts(&parse_ids(&answer)), ["final: \u{fffd}", "final: x", "end: Return"]);
}

#[test]
fn ids_outside_the_vocabulary_are_counted() {
    let mut answer = ids("<|channel|>final<|message|>a");
    answer.extend([u32::MAX, 201_088, 200_100]);
    answer.extend(ids("b<|return|>"));
    let events = parse_ids(&answer);
    assert_eq!(parts(&events), ["final: a", "final: b", "end: Return"]);
    assert_eq!(problems(&events), [Malformation::UnknownToken, Malformation::Stray]);
}

#[test]
fn a_forced_call_begins_with_its_arguments() {
    let tokenizer = tokenizer();
    let tokens = HarmonyTokens::of(&tokenizer).unwrap();
    let (mut parser, begin) = HarmonyParser::in_call(&tokenizer, tokens, "functions.f", "json");
    let answer = ids("{\"a\": 1}<|call|>");
    let mut events = vec![begin];
    events.extend(answer.iter().flat_map(|&id| parser.push(id)));
    assert_eq!(parts(&events), ["call: functions.f json", "arguments: {\"a\": 1}", "end: Call"]);
    assert_eq!(events.iter().map(|event| event.tokens).sum::<usize>(), answer.len());
    assert!(matches!(events.last().unwrap().part, AnswerPart::End(EndOfAnswer::Call)));
}

/// Tokens as models in trouble write them: words of headers, control tokens, halves of characters, anything.
fn random_answer(random: &mut Pcg64Mcg) -> Vec<u32> {
    let known = [
        " to=functions.f",
        "assistant",
        "analysis",
        "commentary",
        "final",
        "json",
        " code",
        "\n",
        " ",
        "{\"a\":",
        "💖",
        "中",
        "user",
        " to=",
        "to=assistant",
        "functions",
    ]
    .map(ids);
    let mut answer = Vec::new();
    for _ in 0..random.random_range(0..60) {
        match random.random_range(0..10) {
            0..=3 => answer.push(random.random_range(199_998..200_014)),
            4..=6 => answer.extend(&known[random.random_range(0..known.len())]),
            7 => answer.extend(known[random.random_range(0..known.len())].first()),
            8 => answer.push(random.random_range(0..199_998)),
            _ => answer.push(random.random_range(0..u32::MAX)),
        }
    }
    answer
}

#[test]
fn any_tokens_are_an_answer_and_each_is_counted_once() {
    let tokenizer = tokenizer();
    let mut random = Pcg64Mcg::seed_from_u64(5);
    for _ in 0..5_000 {
        let answer = random_answer(&mut random);
        let events = parse_ids(&answer);
        // No text is lost in a message: what a body of one channel says is what its tokens say.
        let mut whole = ids("<|channel|>final<|message|>");
        let text: Vec<u32> = answer.iter().copied().filter(|&id| id < 199_998).collect();
        whole.extend(&text);
        let mut stream = TextStream::new(&tokenizer, true);
        let said: String = text.iter().map(|&id| stream.push(id)).collect::<String>() + &stream.flush();
        let expected = if said.is_empty() { vec![] } else { vec![format!("final: {said}")] };
        assert_eq!(parts(&parse_ids(&whole)), expected);
        let ends = events.iter().filter(|event| matches!(event.part, AnswerPart::End(_))).count();
        assert!(ends <= 1, "{answer:?}");
        let starts =
            events.iter().filter(|event| matches!(event.part, AnswerPart::ToolCallStart { .. })).count();
        let call_ends = events.iter().filter(|event| event.part == AnswerPart::ToolCallEnd).count();
        assert_eq!(starts, call_ends, "{answer:?}");
    }
}

/// The messages of an answer as channel (nothing for calls), recipient, form and text.
fn messages(events: &[AnswerEvent]) -> Vec<[String; 4]> {
    let mut messages: Vec<[String; 4]> = Vec::new();
    let mut begins = true;
    for event in events {
        let (channel, text) = match &event.part {
            AnswerPart::ToolCallStart { recipient, content_type } => {
                let form = content_type.clone().unwrap_or_default();
                messages.push([String::new(), recipient.clone(), form, String::new()]);
                begins = false;
                continue;
            }
            AnswerPart::Reasoning(text) => ("analysis", text),
            AnswerPart::Commentary(text) => ("commentary", text),
            AnswerPart::Content(text) => ("final", text),
            AnswerPart::ToolCallArguments(text) => ("", text),
            AnswerPart::Framing => {
                begins = true;
                continue;
            }
            AnswerPart::ToolCallEnd | AnswerPart::End(_) => continue,
        };
        if std::mem::take(&mut begins) {
            messages.push([channel.to_owned(), String::new(), String::new(), String::new()]);
        }
        messages.last_mut().unwrap()[3].push_str(text);
    }
    messages
}

#[test]
fn answers_are_read_as_by_openais_library() {
    let cases: Vec<serde_json::Value> = serde_json::from_str(&golden("answers.json")).unwrap();
    assert!(cases.len() >= 100);
    for case in cases {
        let ids: Vec<u32> = serde_json::from_value(case["tokens"].clone()).unwrap();
        let expected: Vec<[String; 4]> = case["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| {
                let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
                let recipient = text("recipient");
                let channel = if recipient.is_empty() { text("channel") } else { String::new() };
                [channel, recipient, text("content_type").replace("<|constrain|>", ""), text("text")]
            })
            .collect();
        let events = parse_ids(&ids);
        assert_eq!(messages(&events), expected, "{:?}", tokenizer().decode(&ids, false));
        assert_eq!(problems(&events), []);
    }
}
