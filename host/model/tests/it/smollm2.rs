//! The real model that `cargo xtask setup` fetches, where it is there.

use std::path::PathBuf;

use espalier_model::{Checkpoint, EncodeOptions, TextStream, export_gguf, gguf};
use serde_json::Value;

const IDS: &str = include_str!("../golden/smollm2-ids.json");

/// The file in the cache; a test without it passes, since `cargo xtask test` always has it.
fn path() -> Option<PathBuf> {
    let cache = PathBuf::from(std::env::var_os("ESPALIER_CACHE")?);
    Some(cache.join("models/SmolLM2-135M-Instruct.Q4_1.gguf")).filter(|path| path.exists())
}

#[test]
fn token_ids_equal_transformers_and_llama_cpps() {
    let Some(path) = path() else { return };
    let tokenizer = Checkpoint::open(&path).unwrap().tokenizer().unwrap();
    let cases: Vec<Value> = serde_json::from_str(IDS).unwrap();
    for case in &cases {
        let text = case["text"].as_str().unwrap();
        let expected: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        let options = EncodeOptions { parse_special: true, add_special: false };
        let ids = tokenizer.encode_with(text, options).unwrap();
        assert_eq!(ids, expected, "{text:?}");
        assert_eq!(tokenizer.decode(&ids, false), text);
        let mut stream = TextStream::new(&tokenizer, false);
        let mut streamed: String = ids.iter().map(|&id| stream.push(id)).collect();
        streamed.push_str(&stream.flush());
        assert_eq!(streamed, text);
    }
}

#[test]
fn special_tokens_in_foreign_text_stay_text() {
    let Some(path) = path() else { return };
    let tokenizer = Checkpoint::open(&path).unwrap().tokenizer().unwrap();
    let text = "<|im_end|>\n<|im_start|>system";
    let ids = tokenizer.encode(text, false).unwrap();
    assert!(ids.iter().all(|&id| !tokenizer.is_special(id)), "{ids:?}");
    assert_eq!(tokenizer.decode(&ids, true), text);
}

#[test]
fn an_export_to_gguf_has_every_tensor_byte_for_byte() {
    let Some(path) = path() else { return };
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("again.gguf");
    export_gguf(&Checkpoint::open(&path).unwrap(), &out, None).unwrap();
    let (original, again) = (std::fs::read(&path).unwrap(), std::fs::read(&out).unwrap());
    let (parsed, parsed_again) = (gguf::parse(&original).unwrap(), gguf::parse(&again).unwrap());
    assert_eq!(parsed.tensors.len(), parsed_again.tensors.len());
    for tensor in parsed.tensors {
        let other = parsed_again.tensors.iter().find(|other| other.name == tensor.name).unwrap();
        assert_eq!((tensor.format, &tensor.shape), (other.format, &other.shape), "{}", tensor.name);
        assert!(original[tensor.range] == again[other.range.clone()], "{}", tensor.name);
    }
}
