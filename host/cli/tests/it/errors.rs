//! Failures are one sentence on standard error, with exit status 1; wrong usage exits with 2.

use crate::program::{espalier, scratch, text, tiny};

fn fails(arguments: &[&str], expected: &str) {
    let run = espalier(arguments);
    assert_eq!(run.status, 1, "{run:?}");
    assert!(run.stderr.contains(expected), "expected {expected:?} in {:?}", run.stderr);
    assert_eq!(run.stderr.trim_end().lines().count(), 1, "{:?}", run.stderr);
    assert!(run.stdout.is_empty(), "{:?}", run.stdout);
}

#[test]
fn a_missing_model_is_named() {
    fails(&["inspect", "--model", "/does/not/exist"], "/does/not/exist");
}

#[test]
fn an_empty_file_is_no_model() {
    let path = scratch("empty.gguf");
    std::fs::write(&path, b"").unwrap();
    fails(&["inspect", "--model", &text(&path)], "empty.gguf");
}

#[test]
fn tokens_outside_the_vocabulary_are_refused() {
    let tokens = scratch("too_large.json");
    let out = scratch("unused.safetensors");
    std::fs::write(&tokens, "[300]").unwrap();
    let model = text(&tiny());
    let arguments = ["logits", "--model", &model, "--tokens", &text(&tokens), "--out", &text(&out)];
    fails(&arguments, "token id: found 300, expected less than the vocabulary size 300");
}

#[test]
fn a_temperature_outside_its_range_is_named() {
    let model = text(&tiny());
    let arguments = ["generate", "--model", &model, "--prompt", "x", "--raw", "--temperature", "-1"];
    let run = espalier(arguments);
    assert_ne!(run.status, 0, "{run:?}");
    fails(
        &["generate", "--model", &model, "--prompt", "x", "--raw", "--temperature", "3"],
        "temperature is 3",
    );
}

#[test]
fn wrong_usage_exits_with_two() {
    for arguments in [&["generate"] as &[&str], &["frobnicate"], &["inspect", "--modle", "x"]] {
        assert_eq!(espalier(arguments).status, 2);
    }
}
