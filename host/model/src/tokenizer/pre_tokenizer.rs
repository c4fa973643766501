//! How text is cut into words before BPE, by the names that GGUF files use.
//!
//! The expressions are those of the models' own `tokenizer.json` files, which llama.cpp's names stand for.

use serde_json::{Value, json};

use crate::error::ModelError;

/// The parts of a `tokenizer.json` that depend on the pre-tokenizer's name.
pub(crate) struct Split {
    pub(crate) normalizer: Value,
    pub(crate) pre_tokenizer: Value,
    /// Whether a word that is a token as a whole is taken as it is, whatever the merges would make of it.
    pub(crate) ignore_merges: bool,
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// What llama.cpp does for files that name no pre-tokenizer.
const DEFAULT: [&str; 4] = [
    r"[\p{P}\$\+<=>\^~\|]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"\p{N}+",
    "[0-9][0-9][0-9]",
];

/// The names that are known.
pub(crate) const NAMES: &str = "smollm, gpt-2, llama-bpe, qwen2, deepseek-r1-qwen, gpt-4o, default";

/// The split that a `tokenizer.ggml.pre` stands for.
pub(crate) fn by_gguf_name(name: &str) -> Result<Split, ModelError> {
    let (normalizer, pre_tokenizer, ignore_merges) = match name {
        "smollm" => {
            (Value::Null, sequence([json!({ "type": "Digits", "individual_digits": true }), words()]), false)
        }
        "gpt-2" => (Value::Null, words(), false),
        "llama3" | "llama-v3" | "llama-bpe" => (Value::Null, sequence([split(LLAMA3), bytes()]), true),
        "qwen2" | "deepseek-r1-qwen" => (json!({ "type": "NFC" }), sequence([split(QWEN2), bytes()]), false),
        "gpt-4o" => (Value::Null, sequence([split(O200K), bytes()]), false),
        "default" => {
            let [punctuation, words, numbers, triples] = DEFAULT.map(split);
            (Value::Null, sequence([punctuation, words, numbers, triples, bytes()]), false)
        }
        other => return Err(ModelError::unsupported("metadata key tokenizer.ggml.pre", other, NAMES)),
    };
    Ok(Split { normalizer, pre_tokenizer, ignore_merges })
}

/// The name under which llama.cpp knows a `tokenizer.json`'s pre-tokenizer; what it does decides, not how it is put.
pub(crate) fn gguf_name(pre_tokenizer: &Value, ignore_merges: bool) -> Option<&'static str> {
    let wanted = steps(pre_tokenizer)?;
    ["llama-bpe", "qwen2", "gpt-4o", "smollm", "gpt-2", "default"].into_iter().find(|name| {
        by_gguf_name(name).is_ok_and(|split| {
            // The flag matters only where the name implies it.
            steps(&split.pre_tokenizer).as_ref() == Some(&wanted) && (ignore_merges || !split.ignore_merges)
        })
    })
}

/// What a pre-tokenizer does, step by step; `None` for a kind of step that no name above has.
fn steps(pre_tokenizer: &Value) -> Option<Vec<String>> {
    let field = |name: &str| pre_tokenizer.get(name);
    let is = |name: &str, expected: bool| field(name).and_then(Value::as_bool) == Some(expected);
    match field("type")?.as_str()? {
        "Sequence" => {
            let inner: Option<Vec<_>> = field("pretokenizers")?.as_array()?.iter().map(steps).collect();
            Some(inner?.into_iter().flatten().collect())
        }
        "Digits" if is("individual_digits", true) => Some(vec!["digits".into()]),
        "ByteLevel" if is("add_prefix_space", false) => {
            Some(vec![if is("use_regex", false) { "bytes" } else { "words" }.into()])
        }
        "Split" if field("behavior")?.as_str() == Some("Isolated") && is("invert", false) => {
            Some(vec![format!("split {}", field("pattern")?.get("Regex")?.as_str()?)])
        }
        _ => None,
    }
}

fn sequence<const N: usize>(steps: [Value; N]) -> Value {
    json!({ "type": "Sequence", "pretokenizers": steps.to_vec() })
}

/// GPT-2's words, spelled as bytes.
fn words() -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true })
}

/// Bytes spelled as characters, no further cut.
fn bytes() -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false })
}

fn split(expression: &str) -> Value {
    json!({ "type": "Split", "pattern": { "Regex": expression }, "behavior": "Isolated", "invert": false })
}

#[cfg(test)]
mod tests {
    use tokenizers::{
        OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _, PreTokenizerWrapper,
    };

    use super::*;
    use crate::tokenizer::byte_level::byte_of;

    const SPLITS: &str = include_str!("../../tests/golden/splits.json");
    const ALL: [&str; 6] = ["smollm", "gpt-2", "llama-bpe", "qwen2", "gpt-4o", "default"];

    /// The words, with bytes put back from their spelling; `None` for one that isn't spelled.
    fn words(pre_tokenizer: &PreTokenizerWrapper, text: &str) -> Vec<String> {
        let mut text = PreTokenizedString::from(text);
        pre_tokenizer.pre_tokenize(&mut text).unwrap();
        let splits = text.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits
            .into_iter()
            .map(|(word, _, _)| {
                String::from_utf8(word.chars().map(|spelled| byte_of(spelled).unwrap()).collect()).unwrap()
            })
            .collect()
    }

    #[test]
    fn words_are_those_of_oniguruma() {
        let golden: Value = serde_json::from_str(SPLITS).unwrap();
        let texts: Vec<&str> =
            golden["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        for name in ALL {
            let split = by_gguf_name(name).unwrap();
            let pre_tokenizer: PreTokenizerWrapper = serde_json::from_value(split.pre_tokenizer).unwrap();
            for (place, text) in texts.iter().enumerate() {
                let expected: Vec<&str> = golden["splits"][name][place]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|word| word.as_str().unwrap())
                    .collect();
                // What the normalizer does is HF's own code; the words are cut from its result.
                let normalized =
                    if split.normalizer.is_null() { (*text).to_owned() } else { expected.concat() };
                assert_eq!(words(&pre_tokenizer, &normalized), expected, "{name}: {text:?}");
            }
        }
    }

    #[test]
    fn names_are_found_from_what_a_pre_tokenizer_does() {
        for name in ALL {
            let split = by_gguf_name(name).unwrap();
            assert_eq!(gguf_name(&split.pre_tokenizer, split.ignore_merges), Some(name));
        }
        assert_eq!(gguf_name(&json!({ "type": "Whitespace" }), false), None);
        assert!(by_gguf_name("jais-7").is_err());
    }
}
