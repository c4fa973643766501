//! A `tokenizer.json` as GGUF metadata: the inverse of [`super::tokenizer`].

use serde_json::Value as Json;

use super::metadata::Metadata;
use super::value::{Array, Value};
use crate::error::ModelError;
use crate::spec::ModelSpec;
use crate::tokenizer::{TokenizerFiles, pre_tokenizer};

const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// Adds the tokenizer's keys. Files without a `tokenizer.json` add `tokenizer.ggml.model = none`, with which
/// llama.cpp loads weights for token ids alone.
pub(super) fn add(
    metadata: &mut Metadata,
    spec: &ModelSpec,
    files: &TokenizerFiles,
) -> Result<(), ModelError> {
    let mut put = |key: &str, value: Value| metadata.insert(format!("tokenizer.{key}"), value);
    let Some(text) = &files.tokenizer_json else {
        return put("ggml.model", Value::String("none".into()));
    };
    let tokenizer: Json = serde_json::from_str(text)
        .map_err(|error| ModelError::malformed("tokenizer.json", error, "a JSON object"))?;
    let model = tokenizer.get("model").unwrap_or(&Json::Null);
    let kind = model.get("type").and_then(Json::as_str).unwrap_or("unnamed");
    let byte_fallback = model.get("byte_fallback").and_then(Json::as_bool).unwrap_or(false);
    if kind != "BPE" || byte_fallback {
        return Err(ModelError::unsupported("tokenizer model in GGUF:", kind, "byte-level BPE"));
    }
    let ignore_merges = model.get("ignore_merges").and_then(Json::as_bool).unwrap_or(false);
    let pre = tokenizer.get("pre_tokenizer").and_then(|pre| pre_tokenizer::gguf_name(pre, ignore_merges));
    let Some(pre) = pre else {
        let found = "one that llama.cpp has no name for here";
        return Err(ModelError::unsupported("pre-tokenizer in GGUF:", found, pre_tokenizer::NAMES));
    };
    let (tokens, kinds) = tokens(spec, &tokenizer, model)?;
    let id_of =
        |token: &str| tokens.iter().position(|known| known == token).and_then(|id| u32::try_from(id).ok());
    let role = |name: &str| files.special_token(name).and_then(id_of);
    let eos = role("eos_token").or_else(|| spec.eos.first().copied());
    let mut other_ends = spec.eos.iter().copied().filter(|&token| Some(token) != eos);
    let ids = [
        ("bos", spec.bos),
        ("eos", eos),
        ("eot", other_ends.next()),
        ("eom", other_ends.next()),
        ("unknown", role("unk_token")),
        ("padding", role("pad_token")),
    ];
    put("ggml.model", Value::String("gpt2".into()))?;
    put("ggml.pre", Value::String(pre.into()))?;
    put("ggml.merges", Value::Array(Array::String(merges(model)?)))?;
    put("ggml.tokens", Value::Array(Array::String(tokens)))?;
    put("ggml.token_type", Value::Array(Array::I32(kinds)))?;
    for (role, id) in ids {
        if let Some(id) = id {
            put(&format!("ggml.{role}_token_id"), Value::U32(id))?;
        }
    }
    put("ggml.add_bos_token", Value::Bool(spec.add_bos))?;
    if let Some(template) = files.chat_template() {
        put("chat_template", Value::String(template.into()))?;
    }
    Ok(())
}

/// Every id's token and kind; ids without one get a placeholder, as converters make it.
fn tokens(spec: &ModelSpec, tokenizer: &Json, model: &Json) -> Result<(Vec<String>, Vec<i32>), ModelError> {
    let mut tokens: Vec<Option<(String, i32)>> = vec![None; spec.vocab_size];
    let mut place = |token: &str, id: Option<u64>, kind: i32| {
        let found = id.map_or_else(|| "no number".to_owned(), |id| id.to_string());
        let slot = id.and_then(|id| usize::try_from(id).ok()).and_then(|id| tokens.get_mut(id));
        let Some(slot) = slot else {
            let expected = format!("less than the vocabulary size {}", spec.vocab_size);
            return Err(ModelError::malformed(format!("id of token {token:?}"), found, expected));
        };
        *slot = Some((token.to_owned(), kind));
        Ok(())
    };
    let Some(Json::Object(vocabulary)) = model.get("vocab") else {
        return Err(ModelError::missing(
            "field model.vocab of tokenizer.json",
            "an object of tokens and ids",
        ));
    };
    for (token, id) in vocabulary {
        place(token, id.as_u64(), NORMAL)?;
    }
    for added in tokenizer.get("added_tokens").and_then(Json::as_array).into_iter().flatten() {
        let content = added.get("content").and_then(Json::as_str).unwrap_or_default();
        let special = added.get("special").and_then(Json::as_bool).unwrap_or(false);
        place(content, added.get("id").and_then(Json::as_u64), if special { CONTROL } else { USER_DEFINED })?;
    }
    let filled = tokens
        .into_iter()
        .enumerate()
        .map(|(id, slot)| slot.unwrap_or_else(|| (format!("[PAD{id}]"), UNUSED)));
    Ok(filled.unzip())
}

/// Merges as "left right"; `tokenizer.json` has them so or as pairs.
fn merges(model: &Json) -> Result<Vec<String>, ModelError> {
    let Some(Json::Array(merges)) = model.get("merges") else {
        return Err(ModelError::missing("field model.merges of tokenizer.json", "a list"));
    };
    let text = |merge: &Json| match merge {
        Json::String(text) => Some(text.clone()),
        Json::Array(pair) => match pair.as_slice() {
            [Json::String(left), Json::String(right)] => Some(format!("{left} {right}")),
            _ => None,
        },
        _ => None,
    };
    let wrong = |merge: &Json| {
        ModelError::malformed("field model.merges of tokenizer.json", merge, "pairs of strings")
    };
    merges.iter().map(|merge| text(merge).ok_or_else(|| wrong(merge))).collect()
}
