//! Any bytes as the `config.json` of a directory whose tensors are those of a tiny Llama.
#![no_main]

use espalier_model::Checkpoint;
use libfuzzer_sys::fuzz_target;

const TENSORS: &[u8] = include_bytes!("../../tests/golden/data/tiny/llama-llama3-rope-bf16/model.safetensors");

fuzz_target!(|bytes: &[u8]| {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("model.safetensors"), TENSORS).unwrap();
    std::fs::write(directory.path().join("config.json"), bytes).unwrap();
    if let Ok(checkpoint) = Checkpoint::open(directory.path()) {
        let tensors = checkpoint.spec().tensors();
        assert_eq!(tensors.len(), checkpoint.tensors().len());
    }
});
