//! The tokenizer's files from GGUF metadata.
//!
//! GGUF stores a byte-level BPE vocabulary, its merges, the kinds of tokens and the *name* of the pre-tokenizer. Out
//! of them a `tokenizer.json` is made that HF's libraries read, so that there is one tokenizer for both sources and a
//! directory written from a GGUF file is complete.

use serde_json::{Map, Value, json};

use super::architecture::{adds_bos, end_tokens};
use super::metadata::Metadata;
use super::value::{Array, Value as GgufValue};
use crate::error::ModelError;
use crate::tokenizer::{TokenizerFiles, pre_tokenizer};

/// `tokenizer.ggml.token_type`: never produced from text, not part of decoded text.
const CONTROL: u64 = 3;
/// Added after training: matched in text before BPE.
const USER_DEFINED: u64 = 4;
/// A gap in the vocabulary, filled with a placeholder.
const UNUSED: u64 = 5;

/// Builds all files.
///
/// # Errors
/// Metadata without a tokenizer, with one of an unsupported kind, or with lists that don't fit together.
pub fn tokenizer_files(metadata: &Metadata) -> Result<TokenizerFiles, ModelError> {
    let model = metadata.required_text("tokenizer.ggml.model")?;
    if model != "gpt2" {
        return Err(ModelError::unsupported(
            "metadata key tokenizer.ggml.model",
            model,
            "gpt2 (byte-level BPE)",
        ));
    }
    let tokens = metadata.strings("tokenizer.ggml.tokens")?;
    let kinds = token_kinds(metadata, tokens.len())?;
    let split = pre_tokenizer::by_gguf_name(metadata.text("tokenizer.ggml.pre").unwrap_or("default"))?;
    let mut vocabulary = Map::with_capacity(tokens.len());
    let mut added = Vec::new();
    for ((id, token), &kind) in tokens.iter().enumerate().zip(&kinds) {
        if kind == UNUSED {
            continue;
        }
        if vocabulary.insert(token.clone(), id.into()).is_some() {
            return Err(ModelError::malformed(
                "metadata key tokenizer.ggml.tokens",
                format!("{token:?} twice"),
                "each token once",
            ));
        }
        if matches!(kind, CONTROL | USER_DEFINED) {
            added.push(added_token(id, token, kind == CONTROL));
        }
    }
    let merges: Vec<Value> = metadata
        .strings("tokenizer.ggml.merges")?
        .iter()
        .map(|merge| pair(merge))
        .collect::<Result<_, _>>()?;
    let bos = metadata.token("tokenizer.ggml.bos_token_id")?;
    let first = bos.and_then(|id| Some((named(tokens, id)?, id)));
    let first = if adds_bos(metadata)? { first } else { None };
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": split.normalizer,
        "pre_tokenizer": split.pre_tokenizer,
        "post_processor": post_processor(first),
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": split.ignore_merges,
            "vocab": vocabulary,
            "merges": merges,
        },
    });
    Ok(TokenizerFiles {
        tokenizer_json: Some(tokenizer.to_string()),
        tokenizer_config: tokenizer_config(metadata, tokens, first.is_some())?,
        generation_config: generation_config(metadata, bos)?,
        special_tokens_map: special_tokens(metadata, tokens)?,
        chat_template_file: None,
    })
}

fn token_kinds(metadata: &Metadata, tokens: usize) -> Result<Vec<u64>, ModelError> {
    const KEY: &str = "tokenizer.ggml.token_type";
    let Some(value) = metadata.get(KEY) else { return Ok(vec![1; tokens]) };
    let kinds = match value {
        GgufValue::Array(array @ (Array::I32(_) | Array::U32(_))) => array.to_u64(),
        _ => None,
    };
    kinds.filter(|kinds| kinds.len() == tokens).ok_or_else(|| {
        ModelError::malformed(
            format!("metadata key {KEY}"),
            value.kind(),
            format!("one small integer for each of {tokens} tokens"),
        )
    })
}

fn added_token(id: usize, content: &str, special: bool) -> Value {
    json!({
        "id": id,
        "content": content,
        "single_word": false,
        "lstrip": false,
        "rstrip": false,
        "normalized": false,
        "special": special,
    })
}

/// A merge as the pair that current `tokenizer.json` files hold. The halves are separated by the one space that
/// isn't at the beginning: byte-level spelling has no spaces of its own.
fn pair(merge: &str) -> Result<Value, ModelError> {
    match merge.split_once(' ') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() && !right.contains(' ') => {
            Ok(json!([left, right]))
        }
        _ => Err(ModelError::malformed(
            "metadata key tokenizer.ggml.merges",
            format!("{merge:?}"),
            "two pieces and a space",
        )),
    }
}

fn named(tokens: &[String], id: u32) -> Option<&str> {
    tokens.get(id as usize).map(String::as_str)
}

fn post_processor(first: Option<(&str, u32)>) -> Value {
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true });
    let Some((token, id)) = first else { return byte_level };
    let bos = |kind: u32| json!({ "SpecialToken": { "id": token, "type_id": kind } });
    let sequence = |name: &str, kind: u32| json!({ "Sequence": { "id": name, "type_id": kind } });
    let template = json!({
        "type": "TemplateProcessing",
        "single": [bos(0), sequence("A", 0)],
        "pair": [bos(0), sequence("A", 0), bos(1), sequence("B", 1)],
        "special_tokens": { token: { "id": token, "ids": [id], "tokens": [token] } },
    });
    json!({ "type": "Sequence", "processors": [byte_level, template] })
}

/// Roles of special tokens: HF's name and GGUF's.
const ROLES: [(&str, &str); 4] =
    [("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding")];

fn special_tokens(metadata: &Metadata, tokens: &[String]) -> Result<Value, ModelError> {
    let mut map = Map::new();
    for (hf, gguf) in ROLES {
        let id = metadata.token(&format!("tokenizer.ggml.{gguf}_token_id"))?;
        if let Some(token) = id.and_then(|id| named(tokens, id)) {
            map.insert(hf.into(), token.into());
        }
    }
    Ok(Value::Object(map))
}

fn tokenizer_config(metadata: &Metadata, tokens: &[String], adds_bos: bool) -> Result<Value, ModelError> {
    let architecture = metadata.text("general.architecture").unwrap_or_default();
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": adds_bos,
        "add_prefix_space": false,
        "clean_up_tokenization_spaces": false,
        "model_max_length": metadata.size(&format!("{architecture}.context_length"))?,
    });
    if let (Value::Object(config), Value::Object(roles)) = (&mut config, special_tokens(metadata, tokens)?) {
        config.extend(roles);
        if let Some(template) = metadata.text("tokenizer.chat_template") {
            config.insert("chat_template".into(), template.into());
        }
    }
    Ok(config)
}

fn generation_config(metadata: &Metadata, bos: Option<u32>) -> Result<Value, ModelError> {
    let mut config = Map::new();
    if let Some(bos) = bos {
        config.insert("bos_token_id".into(), bos.into());
    }
    match end_tokens(metadata)?.as_slice() {
        [] => {}
        [eos] => {
            config.insert("eos_token_id".into(), (*eos).into());
        }
        several => {
            config.insert("eos_token_id".into(), several.into());
        }
    }
    if let Some(padding) = metadata.token("tokenizer.ggml.padding_token_id")? {
        config.insert("pad_token_id".into(), padding.into());
    }
    Ok(Value::Object(config))
}
