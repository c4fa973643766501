//! Any bytes as `tokenizer.json`: what is accepted must encode and decode any text.
#![no_main]

use espalier_model::{TextStream, Tokenizer, TokenizerFiles};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: {
    // The library's own panics while it reads are caught by `Tokenizer::new`; what is not caught still ends the run.
    std::panic::set_hook(Box::new(|_| ()));
}, |text: &str| {
    let files = TokenizerFiles { tokenizer_json: Some(text.to_owned()), ..TokenizerFiles::default() };
    let Ok(tokenizer) = Tokenizer::new(&files, Some(1), &[2]) else { return };
    let Ok(ids) = tokenizer.encode("A text, 12 numbers,\n\tümlaut 漢字 🌳", true) else { return };
    let _ = tokenizer.decode(&ids, false);
    let mut stream = TextStream::new(&tokenizer, false);
    for id in ids.into_iter().chain([0, 1, u32::MAX]) {
        let _ = stream.push(id);
    }
    let _ = stream.flush();
});
