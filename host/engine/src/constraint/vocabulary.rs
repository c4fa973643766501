//! A vocabulary as llguidance wants it: a prefix tree of the bytes that tokens stand for.

use std::sync::Arc;

use espalier_model::Tokenizer;
use llguidance::toktrie::{ApproximateTokEnv, INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie};

/// In front of a control token's name in the tree, where text never has it: it is no byte of UTF-8.
const MARKER: u8 = TokTrie::SPECIAL_TOKEN_MARKER;
/// Longer tokens are no part of any text: the tree counts the parents of a node with few bits.
const TOKEN_LIMIT: usize = 512;

/// The tokens of `tokenizer` for logits `[vocab_size]`. Control tokens and `ends` stand for no text; `ends` come where a
/// text may end.
pub(super) fn environment(tokenizer: &Tokenizer, vocab_size: usize, ends: &[u32]) -> TokEnv {
    let words: Vec<Vec<u8>> =
        (0..vocab_size as u32).map(|id| word(tokenizer, id, ends.contains(&id))).collect();
    let ends: Vec<u32> = ends.iter().copied().filter(|&end| (end as usize) < vocab_size).collect();
    let info = TokRxInfo::new(vocab_size as u32, ends.first().copied().unwrap_or(INVALID_TOKEN));
    let tree = TokTrie::from(&info, &words);
    let tree = if ends.is_empty() { tree } else { tree.with_eos_tokens(&ends) };
    // It doesn't know how the tokenizer splits texts, so that it never forces a token: the model is free in how it
    // spells what is allowed.
    Arc::new(ApproximateTokEnv::new(tree))
}

fn word(tokenizer: &Tokenizer, id: u32, is_end: bool) -> Vec<u8> {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    if bytes.len() > TOKEN_LIMIT || bytes.contains(&MARKER) {
        Vec::new()
    } else if is_end || tokenizer.is_special(id) {
        [&[MARKER], bytes].concat()
    } else {
        bytes.to_vec()
    }
}
