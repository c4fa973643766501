//! A pruned directory means the same to a program that shares no code with this one.
//!
//! `tests/golden/numpy_llama.py` reads `config.json` and the safetensors by itself and computes in float64.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::{program, smollm2, synthetic};

/// How far float32 may be from float64: the largest relative logit error.
const TOLERANCE: &str = "1e-4";

#[test]
fn a_pruned_synthetic_model_gives_the_same_logits_elsewhere() {
    let Some(python) = program::named_by("ESPALIER_TEST_PYTHON") else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = synthetic::model(folder.path(), 3);
    let pruned = prune(&model, folder.path(), "head,ffn-channel", "0.7");
    agree(&python, &pruned, folder.path(), 1..120);
}

#[test]
fn a_pruned_real_model_gives_the_same_logits_elsewhere() {
    let (Some(python), Some(model)) = (program::named_by("ESPALIER_TEST_PYTHON"), smollm2::path()) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let pruned = prune(&model, folder.path(), "head,ffn-channel", "0.75");
    agree(&python, &pruned, folder.path(), 1_000..1_048);
}

#[test]
fn a_real_model_of_fewer_heads_gives_the_same_logits_elsewhere() {
    let (Some(python), Some(model)) = (program::named_by("ESPALIER_TEST_PYTHON"), smollm2::path()) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let pruned = prune(&model, folder.path(), "head", "0.951");
    let config = fs::read_to_string(pruned.join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    // One query head of each group of three goes; what is left no longer spans the hidden size of 576.
    let expected = [("num_attention_heads", 6), ("num_key_value_heads", 3), ("head_dim", 64)];
    for (field, count) in expected {
        assert_eq!(config[field], count, "{field} in {config}");
    }
    assert_eq!((&config["hidden_size"], &config["intermediate_size"]), (&json!(576), &json!(1536)));
    agree(&python, &pruned, folder.path(), 1_000..1_048);
}

/// Prunes on a little text with the built policy.
fn prune(model: &Path, folder: &Path, units: &str, keep: &str) -> PathBuf {
    let text = folder.join("calibration.txt");
    fs::write(&text, "Four score and seven years ago our fathers brought forth a new nation. ".repeat(60))
        .unwrap();
    let out = folder.join("pruned");
    let policy = program::component("activation-norm");
    let done = program::run(&[
        "prune",
        "--model",
        model.to_str().unwrap(),
        "--policy",
        policy.to_str().unwrap(),
        "--units",
        units,
        "--keep",
        keep,
        "--calibration",
        text.to_str().unwrap(),
        "--windows",
        "2",
        "--window-tokens",
        "128",
        "--out",
        out.to_str().unwrap(),
    ]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    out
}

/// Checks this program's logits for some token ids against those of the NumPy program.
fn agree(python: &Path, model: &Path, folder: &Path, ids: std::ops::Range<u32>) {
    let tokens = folder.join("tokens.json");
    let logits = folder.join("logits.safetensors");
    fs::write(&tokens, serde_json::to_string(&ids.collect::<Vec<u32>>()).unwrap()).unwrap();
    let done = program::run(&[
        "logits",
        "--model",
        model.to_str().unwrap(),
        "--tokens",
        tokens.to_str().unwrap(),
        "--out",
        logits.to_str().unwrap(),
    ]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let output = Command::new(python)
        .arg(program::root().join("tests/golden/numpy_llama.py"))
        .arg("--model")
        .arg(model)
        .arg("--tokens")
        .arg(&tokens)
        .arg("--compare")
        .arg(&logits)
        .args(["--tolerance", TOLERANCE])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
