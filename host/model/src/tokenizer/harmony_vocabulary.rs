//! Tokenizers of one's own for gpt-oss: byte-level BPE in o200k's words, with Harmony's special tokens.

use serde_json::{Map, Value, json};

use super::byte_level::character_of;
use super::{TokenizerFiles, pre_tokenizer};
use crate::error::ModelError;

/// Behind the merged tokens, in this order.
const SPECIAL: [&str; 9] = [
    "<|startoftext|>",
    "<|endoftext|>",
    "<|return|>",
    "<|constrain|>",
    "<|channel|>",
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|call|>",
];

impl TokenizerFiles {
    /// Tokens that every vocabulary of [`TokenizerFiles::harmony`] has: the 256 bytes and Harmony's special tokens.
    pub const LEAST_HARMONY_VOCABULARY: usize = 256 + SPECIAL.len();

    /// The files of a vocabulary of the 256 bytes, one token for each of `merges` (pairs of tokens as `tokenizer.json`
    /// spells them, most frequent first) and Harmony's special tokens.
    ///
    /// # Errors
    /// A merge of tokens that don't exist yet, or that makes one that does.
    pub fn harmony(merges: &[(String, String)]) -> Result<Self, ModelError> {
        let split = pre_tokenizer::by_gguf_name("gpt-4o")?;
        let mut vocabulary: Map<String, Value> =
            (0..=u8::MAX).map(|byte| (character_of(byte).to_string(), byte.into())).collect();
        for (left, right) in merges {
            let merged = format!("{left}{right}");
            let known = vocabulary.contains_key(left) && vocabulary.contains_key(right);
            if !known || vocabulary.contains_key(&merged) {
                let found = format!("{left:?} and {right:?}");
                return Err(ModelError::argument("merge", found, "two tokens that make a new one"));
            }
            vocabulary.insert(merged, vocabulary.len().into());
        }
        let first = vocabulary.len();
        let ids = |token: &str| SPECIAL.iter().position(|other| *other == token).map(|place| first + place);
        let added: Vec<Value> = (first..)
            .zip(SPECIAL)
            .map(|(id, token)| {
                json!({
                    "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true,
                })
            })
            .collect();
        let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
        let tokenizer = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": split.normalizer,
            "pre_tokenizer": split.pre_tokenizer,
            "post_processor": byte_level,
            "decoder": byte_level,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocabulary, "merges": merges,
            },
        });
        let (bos, eos, pad) = ("<|startoftext|>", "<|return|>", "<|endoftext|>");
        Ok(Self {
            tokenizer_json: Some(tokenizer.to_string()),
            tokenizer_config: json!({
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": bos,
                "eos_token": eos,
                "pad_token": pad,
                "clean_up_tokenization_spaces": false,
                "model_input_names": ["input_ids", "attention_mask"],
            }),
            generation_config: json!({
                "bos_token_id": ids(bos),
                "eos_token_id": [ids(pad), ids(eos), ids("<|call|>")],
                "pad_token_id": ids(pad),
            }),
            special_tokens_map: json!({ "bos_token": bos, "eos_token": eos, "pad_token": pad }),
            chat_template_file: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::harmony::HarmonyFormat;
    use crate::tokenizer::Tokenizer;

    fn pair(left: &str, right: &str) -> (String, String) {
        (left.to_owned(), right.to_owned())
    }

    #[test]
    fn texts_come_back_and_merges_are_used() {
        let files = TokenizerFiles::harmony(&[pair("a", "b"), pair("Ġ", "ab")]).unwrap();
        let tokenizer = Tokenizer::new(&files, None, &[]).unwrap();
        assert_eq!(tokenizer.vocab_size(), TokenizerFiles::LEAST_HARMONY_VOCABULARY + 2);
        assert_eq!(tokenizer.encode("ab ab", false).unwrap(), [256, 257]);
        for text in ["äh, 12 \n\n x", "<|end|>"] {
            assert_eq!(tokenizer.decode(&tokenizer.encode(text, false).unwrap(), false), text);
        }
        assert_eq!(tokenizer.encode("<|end|>", true).unwrap().len(), 1);
        assert!(HarmonyFormat::of(&tokenizer).is_some());
        assert_eq!(tokenizer.eos().len(), 3);
    }

    #[test]
    fn merges_of_nothing_are_refused() {
        let error = TokenizerFiles::harmony(&[pair("ab", "c")]).unwrap_err().to_string();
        assert!(error.contains("\"ab\" and \"c\""), "{error}");
        TokenizerFiles::harmony(&[pair("a", "b"), pair("a", "b")]).unwrap_err();
    }
}
