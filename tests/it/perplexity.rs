//! `espalier evaluate` with the perplexity component gives the figures that other programs compute for the same weights
//! and text: transformers in both conventions, and llama.cpp's own program in its own.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{program, smollm2};

/// How far apart the figures may be, as a share.
const TOLERANCE: f64 = 0.005;

#[test]
fn perplexity_equals_that_of_other_programs_in_both_conventions() {
    let Some(model) = smollm2::path() else { return };
    let transformers = golden("smollm2-perplexity.json");
    let llama_cpp = golden("smollm2-llama-cpp.json");
    let folder = tempfile::tempdir().unwrap();
    let window = u32::try_from(transformers["hugging_face"]["window"].as_u64().unwrap()).unwrap();
    let model = with_context_length(&model, window, folder.path());

    let metric = program::component("perplexity");
    let done = program::run(&[
        "evaluate",
        "--model",
        model.to_str().unwrap(),
        "--data",
        golden_data("sotu-test.txt").to_str().unwrap(),
        "--max-tokens",
        &transformers["tokens"].to_string(),
        "--metrics",
        metric.to_str().unwrap(),
        "--no-timing",
        "--json",
    ]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["data"]["tokens"], transformers["tokens"]);

    let chunks = measurement(&report, "perplexity.chunks");
    is_near(&chunks["value"], &transformers["llama_cpp"]["perplexity"]);
    is_near(&chunks["standard_error"], &transformers["llama_cpp"]["stderr"]);
    is_near(&chunks["value"], &llama_cpp["perplexity"]["perplexity"]);
    let stride = measurement(&report, "perplexity.stride");
    is_near(&stride["value"], &transformers["hugging_face"]["perplexity"]);
}

/// A copy of a GGUF file that states another context: the component's windows are as long as the model allows, and
/// those of the reference are short enough to overlap on little text.
fn with_context_length(model: &Path, tokens: u32, folder: &Path) -> PathBuf {
    // A key is followed by its value's type, here 4 for u32, and the value.
    let entry = [b"llama.context_length".as_slice(), &4_u32.to_le_bytes()].concat();
    let mut bytes = fs::read(model).unwrap();
    let at = bytes.windows(entry.len()).position(|window| window == entry).unwrap() + entry.len();
    bytes[at..at + 4].copy_from_slice(&tokens.to_le_bytes());
    let copy = folder.join("short-context.gguf");
    fs::write(&copy, bytes).unwrap();
    copy
}

fn golden_data(name: &str) -> PathBuf {
    program::root().join("tests/golden/data").join(name)
}

fn golden(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(golden_data(name)).unwrap()).unwrap()
}

fn measurement<'a>(report: &'a Value, name: &str) -> &'a Value {
    let measurements = report["rows"][0]["measurements"].as_array().unwrap();
    measurements.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name} in {report}"))
}

#[track_caller]
fn is_near(found: &Value, expected: &Value) {
    let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
    assert!((found / expected - 1.0).abs() <= TOLERANCE, "found {found}, expected {expected}");
}
