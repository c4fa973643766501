//! A GGUF file opened as a checkpoint: specification, tensors, tokenizer and chat template, as `serve` would use them.
#![no_main]

use espalier_model::{ChatMessage, ChatTemplate, Checkpoint};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let file = tempfile::Builder::new().suffix(".gguf").tempfile().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    if let Ok(checkpoint) = Checkpoint::open(file.path()) {
        for tensor in checkpoint.tensors() {
            let _ = tensor.to_f32();
        }
        if let Ok(tokenizer) = checkpoint.tokenizer()
            && let Ok(ids) = tokenizer.encode("A <|im_start|> text, 12 numbers.\n", true)
        {
            let _ = tokenizer.decode(&ids, true);
        }
        if let Some(Ok(template)) = checkpoint.chat_template().map(|source| ChatTemplate::new(source, "<s>", "</s>")) {
            let message = ChatMessage { role: "user".into(), content: "Hello".into() };
            let _ = template.render(&[message], true);
        }
    }
});
