//! Any text as a chat template: it comes from a model's files, so it may be hostile. It must end, and fail only by error.
#![no_main]

use espalier_model::{ChatMessage, ChatTemplate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    let Ok(template) = ChatTemplate::new(source, "<s>", "</s>") else { return };
    let message = |role: &str, content: &str| ChatMessage { role: role.into(), content: content.into() };
    let conversation = [message("system", "Be brief."), message("user", "Hi {{ x }}"), message("assistant", "")];
    let _ = template.render(&conversation, true);
    let _ = template.render(&[], false);
});
