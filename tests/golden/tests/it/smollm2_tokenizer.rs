//! Ids of a whole text and of rendered conversations, against the reference's (and llama.cpp's, which are the same).

use espalier_golden::smollm2::{self, Greedy, TextTokens, read_json};
use espalier_model::{ChatMessage, ChatTemplate};

use crate::loaded;

#[test]
fn a_text_of_forty_thousand_bytes_has_the_reference_ids_and_comes_back_whole() {
    let loaded = loaded::smollm2();
    let tokenizer = loaded.0.tokenizer().unwrap();
    let text = smollm2::text().unwrap();
    let expected: TextTokens = read_json("smollm2-tokens.json").unwrap();
    let found = tokenizer.encode(&text, true).unwrap();
    assert_eq!(found, expected.ids);
    assert_eq!(tokenizer.decode(&found, false), text);
}

#[test]
fn conversations_render_and_tokenise_like_the_reference() {
    let loaded = loaded::smollm2();
    let tokenizer = loaded.0.tokenizer().unwrap();
    let template =
        ChatTemplate::new(loaded.0.chat_template().unwrap(), "<|im_start|>", "<|im_end|>").unwrap();
    let golden: Greedy = read_json("smollm2-greedy.json").unwrap();
    for case in golden.prompts {
        if !case.messages.is_empty() {
            let messages: Vec<_> = case
                .messages
                .iter()
                .map(|message| ChatMessage { role: message.role.clone(), content: message.content.clone() })
                .collect();
            assert_eq!(template.render(&messages, true).unwrap(), case.rendered, "{}", case.name);
        }
        assert_eq!(tokenizer.encode(&case.rendered, true).unwrap(), case.prompt_ids, "{}", case.name);
        assert_eq!(tokenizer.decode(&case.ids, false), case.completion, "{}", case.name);
    }
}
