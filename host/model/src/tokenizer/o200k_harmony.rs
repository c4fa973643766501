//! The tokenizer of gpt-oss, for checkpoints that come without a `tokenizer.json`.
//!
//! The ranks are those that the `tiktoken-rs` crate carries. They become a `tokenizer.json` like any other, so that
//! there is one way to encode, and an exported directory is complete. What BPE by ranks merges, BPE by pairs merges
//! if every way to cut a token into two others is a pair, in the order of the tokens' ranks.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::byte_level::character_of;
use super::{TokenizerFiles, pre_tokenizer};
use crate::error::ModelError;

/// Ids in the vocabulary, reserved ones included.
pub(crate) const VOCABULARY: usize = 201_088;
/// `<|endoftext|>`, `<|return|>` and `<|call|>`.
pub(crate) const END_TOKENS: [u32; 3] = [199_999, 200_002, 200_012];
/// `<|startoftext|>`.
pub(crate) const BOS: u32 = 199_998;
const PADDING: u32 = 199_999;
const FIRST_SPECIAL: u32 = 199_998;

/// Adds what `files` lack of an HF directory's tokenizer. The vocabulary is converted once per process.
///
/// # Errors
/// The bundled vocabulary isn't the one that this was written for.
pub(crate) fn complete(mut files: TokenizerFiles) -> Result<TokenizerFiles, ModelError> {
    static JSON: OnceLock<String> = OnceLock::new();
    if files.tokenizer_json.is_none() {
        let json = match JSON.get() {
            Some(json) => json,
            None => {
                let json = tokenizer_json()?;
                JSON.get_or_init(|| json)
            }
        };
        files.tokenizer_json = Some(json.clone());
    }
    let roles =
        json!({ "bos_token": "<|startoftext|>", "eos_token": "<|return|>", "pad_token": "<|endoftext|>" });
    fill(&mut files.special_tokens_map, &roles);
    fill(&mut files.tokenizer_config, &roles);
    fill(
        &mut files.tokenizer_config,
        &json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": false,
            "model_input_names": ["input_ids", "attention_mask"],
        }),
    );
    let tokens = json!({ "bos_token_id": BOS, "eos_token_id": END_TOKENS, "pad_token_id": PADDING });
    fill(&mut files.generation_config, &tokens);
    Ok(files)
}

/// Adds the entries of `defaults` that `object` doesn't have; anything but an object is replaced.
fn fill(object: &mut Value, defaults: &Value) {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    if let (Value::Object(object), Value::Object(defaults)) = (object, defaults) {
        for (name, value) in defaults {
            object.entry(name).or_insert_with(|| value.clone());
        }
    }
}

fn tokenizer_json() -> Result<String, ModelError> {
    let ranked = ranked_tokens()?;
    let split = pre_tokenizer::by_gguf_name("gpt-4o")?;
    let spelled: Vec<String> = ranked.iter().map(|bytes| spell(bytes)).collect();
    let added: Vec<_> = (FIRST_SPECIAL..).zip(special_tokens()).collect();
    let json = TokenizerJson {
        version: "1.0",
        truncation: Value::Null,
        padding: Value::Null,
        added_tokens: added
            .iter()
            .map(|(id, token)| {
                json!({
                    "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true,
                })
            })
            .collect(),
        normalizer: split.normalizer,
        pre_tokenizer: split.pre_tokenizer,
        post_processor: byte_level(),
        decoder: byte_level(),
        model: Bpe {
            r#type: "BPE",
            dropout: Value::Null,
            unk_token: Value::Null,
            continuing_subword_prefix: Value::Null,
            end_of_word_suffix: Value::Null,
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges: true,
            vocab: &spelled,
            merges: merges(&ranked, &spelled),
        },
    };
    serde_json::to_string(&json).map_err(|error| ModelError::Tokenizer(error.to_string()))
}

/// The bytes of each ordinary token, in the order of ids, which are ranks.
fn ranked_tokens() -> Result<Vec<Vec<u8>>, ModelError> {
    let encoding = tiktoken_rs::o200k_harmony()
        .map_err(|error| ModelError::Tokenizer(format!("o200k_harmony: {error}")))?;
    (0..FIRST_SPECIAL)
        .map(|rank| {
            encoding
                .decode_bytes(&[rank])
                .map_err(|error| ModelError::Tokenizer(format!("o200k_harmony: {error}")))
        })
        .collect()
}

/// Texts of the special tokens, ascending from [`FIRST_SPECIAL`].
fn special_tokens() -> impl Iterator<Item = String> {
    (FIRST_SPECIAL..VOCABULARY as u32).map(|id| match id {
        199_998 => "<|startoftext|>".to_owned(),
        199_999 => "<|endoftext|>".to_owned(),
        200_002 => "<|return|>".to_owned(),
        200_003 => "<|constrain|>".to_owned(),
        200_005 => "<|channel|>".to_owned(),
        200_006 => "<|start|>".to_owned(),
        200_007 => "<|end|>".to_owned(),
        200_008 => "<|message|>".to_owned(),
        200_012 => "<|call|>".to_owned(),
        reserved => format!("<|reserved_{reserved}|>"),
    })
}

/// Every cut of every token into two, by the rank of the whole, then of the left and of the right half.
fn merges<'a>(ranked: &[Vec<u8>], spelled: &'a [String]) -> Vec<(&'a str, &'a str)> {
    let ranks: HashMap<&[u8], usize> =
        ranked.iter().enumerate().map(|(rank, token)| (token.as_slice(), rank)).collect();
    let mut merges = Vec::with_capacity(3 * ranked.len());
    let mut cuts = Vec::new();
    for token in ranked {
        cuts.clear();
        cuts.extend((1..token.len()).filter_map(|at| {
            let (left, right) = token.split_at(at);
            Some((*ranks.get(left)?, *ranks.get(right)?))
        }));
        cuts.sort_unstable();
        merges.extend(
            cuts.iter().filter_map(|&(left, right)| {
                Some((spelled.get(left)?.as_str(), spelled.get(right)?.as_str()))
            }),
        );
    }
    merges
}

fn spell(bytes: &[u8]) -> String {
    bytes.iter().copied().map(character_of).collect()
}

fn byte_level() -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false })
}

#[derive(Serialize)]
struct TokenizerJson<'a> {
    version: &'a str,
    truncation: Value,
    padding: Value,
    added_tokens: Vec<Value>,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: Bpe<'a>,
}

#[derive(Serialize)]
struct Bpe<'a> {
    r#type: &'a str,
    dropout: Value,
    unk_token: Value,
    continuing_subword_prefix: Value,
    end_of_word_suffix: Value,
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    #[serde(serialize_with = "ids_by_token")]
    vocab: &'a [String],
    merges: Vec<(&'a str, &'a str)>,
}

fn ids_by_token<S: Serializer>(tokens: &&[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(tokens.iter().enumerate().map(|(id, token)| (token, id)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::{RngExt as _, SeedableRng as _};

    use super::*;
    use crate::tokenizer::{EncodeOptions, TextStream, Tokenizer};

    const GOLDEN: &str = include_str!("../../tests/golden/o200k-harmony-ids.json");

    fn tokenizer() -> Tokenizer {
        static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
        let build =
            || Tokenizer::new(&complete(TokenizerFiles::default()).unwrap(), None, &END_TOKENS).unwrap();
        TOKENIZER.get_or_init(build).clone()
    }

    fn ids(value: &Value) -> Vec<u32> {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn texts_become_the_ids_of_tiktoken_and_come_back() {
        let tokenizer = tokenizer();
        let cases: Vec<Value> = serde_json::from_str(GOLDEN).unwrap();
        assert!(cases.len() > 30);
        for case in cases {
            let text = case["text"].as_str().unwrap();
            let parsed = EncodeOptions { parse_special: true, add_special: true };
            let (literal, special) = (ids(&case["ordinary"]), ids(&case["special"]));
            assert_eq!(tokenizer.encode(text, false).unwrap(), literal, "{text:?}");
            assert_eq!(tokenizer.encode_with(text, parsed).unwrap(), special, "{text:?}");
            for ids in [&literal, &special] {
                assert_eq!(tokenizer.decode(ids, false), text);
                let mut stream = TextStream::new(&tokenizer, false);
                let streamed: String = ids.iter().map(|&id| stream.push(id)).collect();
                assert_eq!(streamed + &stream.flush(), text);
            }
        }
    }

    #[test]
    fn random_texts_become_the_ids_of_tiktoken() {
        let (tokenizer, theirs) = (tokenizer(), tiktoken_rs::o200k_harmony().unwrap());
        let alphabet: Vec<char> =
            "aAeinorstTHE zZé ß中文的模型字日本語한글🌳💖👩\u{200d}\u{301}\u{a0} \n\t\r'’.,;:!?/\\-_(){}[]<>|0123٣ऄกЖאم"
                .chars()
                .collect();
        let mut random = rand_pcg::Pcg64Mcg::seed_from_u64(3);
        for _ in 0..2_000 {
            let text: String = (0..random.random_range(1..80))
                .map(|_| alphabet[random.random_range(0..alphabet.len())])
                .collect();
            assert_eq!(tokenizer.encode(&text, false).unwrap(), theirs.encode_ordinary(&text), "{text:?}");
        }
    }

    #[test]
    fn every_token_has_the_bytes_of_tiktoken() {
        let (tokenizer, theirs) = (tokenizer(), tiktoken_rs::o200k_harmony().unwrap());
        assert_eq!(tokenizer.vocab_size(), VOCABULARY);
        for id in 0..VOCABULARY as u32 {
            assert_eq!(tokenizer.token_bytes(id).unwrap(), theirs.decode_bytes(&[id]).unwrap(), "{id}");
            assert_eq!(tokenizer.is_special(id), id >= FIRST_SPECIAL);
        }
        for token in theirs.special_tokens() {
            let id = theirs.encode(token, &HashSet::from([token])).unwrap().0;
            assert_eq!(tokenizer.token_id(token).map(|id| vec![id]), Some(id), "{token}");
        }
        assert_eq!(tokenizer.eos(), END_TOKENS);
        assert_eq!((tokenizer.bos(), tokenizer.adds_bos()), (Some(BOS), false));
    }

    #[test]
    fn what_a_directory_says_itself_is_kept() {
        let own = TokenizerFiles {
            tokenizer_json: Some("{}".into()),
            tokenizer_config: json!({ "eos_token": "<|end|>", "chat_template": "x" }),
            ..TokenizerFiles::default()
        };
        let files = complete(own).unwrap();
        assert_eq!(files.tokenizer_json.as_deref(), Some("{}"));
        assert_eq!(files.special_token("eos_token"), Some("<|end|>"));
        assert_eq!(
            (files.special_token("pad_token"), files.chat_template()),
            (Some("<|endoftext|>"), Some("x"))
        );
    }
}
