//! Commands that read a model.

use crate::program::{espalier, scratch, text, tiny};

#[test]
fn inspect_counts_parameters() {
    let run = espalier(["inspect", "--model", &text(&tiny()), "--json"]);
    assert_eq!(run.status, 0, "{run:?}");
    let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    // Embedding 300·64; per layer q, o 64·64, k, v 32·64, three FFN matrices 96·64, two norms; final norm.
    let expected = 300 * 64 + 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 96 * 64 + 2 * 64) + 64;
    assert_eq!(json["parameters"]["total"], expected, "{json:#}");
}

#[test]
fn logits_are_written_as_safetensors() {
    let tokens = scratch("tokens.json");
    let out = scratch("logits.safetensors");
    std::fs::write(&tokens, "[1, 2, 3, 4, 5]").unwrap();
    let run =
        espalier(["logits", "--model", &text(&tiny()), "--tokens", &text(&tokens), "--out", &text(&out)]);
    assert_eq!(run.status, 0, "{run:?}");
    let bytes = std::fs::read(&out).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    assert_eq!(header["logits"]["shape"], serde_json::json!([5, 300]));
    assert_eq!(bytes.len(), 8 + length + 5 * 300 * 4);
}

#[test]
fn generate_is_repeatable_for_a_seed() {
    let run = || {
        espalier([
            "generate",
            "--model",
            &text(&tiny()),
            "--prompt",
            "hello",
            "--raw",
            "--ids",
            "--max-tokens",
            "20",
            "--temperature",
            "1",
            "--seed",
            "3",
        ])
    };
    let first = run();
    assert_eq!(first.status, 0, "{first:?}");
    let ids: Vec<u32> = serde_json::from_str(&first.stdout).unwrap();
    assert!(!ids.is_empty());
    assert_eq!(run().stdout, first.stdout);
}

#[test]
fn bench_reports_a_speed() {
    let run = espalier([
        "bench",
        "decode",
        "--model",
        &text(&tiny()),
        "--tokens",
        "8",
        "--sequences",
        "2",
        "--repetitions",
        "1",
        "--json",
    ]);
    assert_eq!(run.status, 0, "{run:?}");
    let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(json["tokens"], 16);
    assert!(json["tokens_per_second"].as_f64().unwrap() > 0.0);
}
