//! Any tokens as a model's answer: the parsers turn them into events, and each token is counted by exactly one.
#![no_main]

use std::sync::LazyLock;

use espalier_model::chat::harmony::{HarmonyParser, HarmonyTokens};
use espalier_model::chat::{AnswerEvent, AnswerPart, TaggedParser};
use espalier_model::{Tokenizer, TokenizerFiles};
use libfuzzer_sys::fuzz_target;

/// What answers are made of, and what a model that goes wrong writes.
const TEXTS: [&str; 28] = [
    "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>", "<|endoftext|>",
    "<|reserved_200100|>", "assistant", "user", "analysis", "commentary", "final", " to=functions.f", " to=", "json",
    " code", " ", "\n", "{\"name\":\"f\",\"arguments\":{}}", "Hello", "💖", "中文", "<think>", "</think>", "<tool_call>",
    "</tool_call>",
];
/// A byte from here on takes three more, which are an id.
const ANY_ID: u8 = 0xc0;

struct Vocabulary {
    tokenizer: Tokenizer,
    tokens: HarmonyTokens,
    texts: Vec<Vec<u32>>,
}

static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(|| {
    let tokenizer = Tokenizer::new(&TokenizerFiles::o200k_harmony().unwrap(), None, &[]).unwrap();
    let tokens = HarmonyTokens::of(&tokenizer).unwrap();
    let texts = TEXTS.iter().map(|text| tokenizer.encode(text, true).unwrap()).collect();
    Vocabulary { tokenizer, tokens, texts }
});

fn ids(bytes: &[u8]) -> Vec<u32> {
    let mut ids = Vec::new();
    let mut bytes = bytes.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte >= ANY_ID {
            let mut next = || bytes.next().unwrap_or_default();
            ids.push(u32::from_le_bytes([next(), next(), next(), 0]));
        } else {
            // The whole text, or its first token: half of a character, half of a tag.
            let text = &VOCABULARY.texts[usize::from(byte / 2) % TEXTS.len()];
            ids.extend(if byte % 2 == 0 { text.as_slice() } else { &text[..1] });
        }
    }
    ids
}

fn check(ids: &[u32], events: &[AnswerEvent]) {
    let counted: usize = events.iter().map(|event| event.tokens).sum();
    assert_eq!(counted, ids.len());
    let count = |wanted: fn(&AnswerPart) -> bool| events.iter().filter(|event| wanted(&event.part)).count();
    let starts = count(|part| matches!(part, AnswerPart::ToolCallStart { .. }));
    assert_eq!(starts, count(|part| *part == AnswerPart::ToolCallEnd));
    assert!(count(|part| matches!(part, AnswerPart::End(_))) <= 1);
}

fuzz_target!(|bytes: &[u8]| {
    let Vocabulary { tokenizer, tokens, .. } = &*VOCABULARY;
    let ids = ids(bytes);
    let mut parser = HarmonyParser::new(tokenizer, *tokens);
    let mut events: Vec<_> = ids.iter().flat_map(|&id| parser.push(id)).collect();
    events.extend(parser.finish());
    check(&ids, &events);

    let (mut parser, begin) = HarmonyParser::in_call(tokenizer, *tokens, "functions.f", "json");
    let mut events = vec![begin];
    events.extend(ids.iter().flat_map(|&id| parser.push(id)));
    events.extend(parser.finish());
    check(&ids, &events);

    let flags = bytes.first().copied().unwrap_or_default();
    let mut parser = TaggedParser::new(tokenizer, flags & 1 == 0, flags & 2 == 0, flags & 4 == 0);
    let mut events: Vec<_> = ids.iter().flat_map(|&id| parser.push(id)).collect();
    events.extend(parser.finish());
    check(&ids, &events);
});
