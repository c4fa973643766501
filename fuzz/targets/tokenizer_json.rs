//! Any bytes as `tokenizer.json`: what is accepted must encode and decode any text.
#![no_main]

use std::sync::LazyLock;

use espalier_model::{Checkpoint, ModelSpec, TextStream, Tokenizer, TokenizerFiles};
use libfuzzer_sys::fuzz_target;

static SPEC: LazyLock<ModelSpec> = LazyLock::new(|| {
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/data/tiny/llama-tied-f32");
    Checkpoint::open(tiny.as_ref()).unwrap().spec().clone()
});

fuzz_target!(|text: &str| {
    let files = TokenizerFiles { tokenizer_json: Some(text.to_owned()), ..TokenizerFiles::default() };
    let Ok(tokenizer) = Tokenizer::new(&files, &SPEC) else { return };
    let Ok(ids) = tokenizer.encode("A text, 12 numbers,\n\tümlaut 漢字 🌳", true) else { return };
    tokenizer.decode(&ids, false);
    let mut stream = TextStream::new(&tokenizer, false);
    for id in ids.into_iter().chain([0, 1, u32::MAX]) {
        stream.push(id);
    }
    stream.flush();
});
