//! Any bytes as the `config.json` of a directory whose tensors are those of a tiny Llama.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use espalier_model::Checkpoint;
use libfuzzer_sys::fuzz_target;

static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = PathBuf::from(format!("/dev/shm/espalier-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let model = include_bytes!("../../tests/golden/data/tiny/llama-llama3-rope-bf16/model.safetensors");
    std::fs::write(directory.join("model.safetensors"), model).unwrap();
    directory
});

fuzz_target!(|bytes: &[u8]| {
    std::fs::write(DIRECTORY.join("config.json"), bytes).unwrap();
    if let Ok(checkpoint) = Checkpoint::open(&DIRECTORY) {
        let tensors = checkpoint.spec().tensors();
        assert_eq!(tensors.len(), checkpoint.tensors().len());
    }
});
