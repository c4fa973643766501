//! `export` and `quantize`: copies in other forms.

use serde_json::Value;

use crate::program::{espalier, scratch, text, tiny};

#[test]
fn a_copy_goes_to_gguf_and_back_unchanged() {
    let (file, back) = (scratch("copy.gguf"), scratch("back"));
    for (from, format, to) in [(&tiny(), "gguf", &file), (&file, "hf", &back)] {
        let run = espalier(["export", "--model", &text(from), "--format", format, "--out", &text(to)]);
        assert_eq!(run.status, 0, "{run:?}");
        assert!(run.stdout.contains("written to"), "{run:?}");
    }
    let weights = |directory: &std::path::Path| std::fs::read(directory.join("model.safetensors")).unwrap();
    assert!(weights(&tiny()) == weights(&back));
}

#[test]
fn quantize_reports_the_error_of_each_format() {
    let file = scratch("small.gguf");
    let arguments =
        ["quantize", "--model", &text(&tiny()), "--format", "q8_0", "--out", &text(&file), "--json"];
    let run = espalier(arguments);
    assert_eq!(run.status, 0, "{run:?}");
    let json: Value = serde_json::from_str(&run.stdout).unwrap();
    let change = &json["report"]["changes"][0];
    assert_eq!((change["from"].as_str(), change["to"].as_str()), (Some("f32"), Some("q8_0")), "{json:#}");
    assert!((0.002..0.01).contains(&change["relative_rms_error"].as_f64().unwrap()), "{json:#}");
    let inspected = espalier(["inspect", "--model", &text(&file), "--json"]);
    let json: Value = serde_json::from_str(&inspected.stdout).unwrap();
    assert_eq!(json["format"], "gguf", "{json:#}");
    assert!(json["weight_formats"]["q8_0"]["tensors"].as_u64().unwrap() > 14, "{json:#}");

    let directory = scratch("half");
    let model = text(&tiny());
    let run = espalier(["quantize", "--model", &model, "--format", "bf16", "--out", &text(&directory)]);
    assert_eq!(run.status, 0, "{run:?}");
    assert!(run.stdout.contains("f32 -> bf16"), "{run:?}");
    assert!(directory.join("config.json").is_file());
}

#[test]
fn formats_without_a_place_are_refused_in_one_sentence() {
    let model = text(&tiny());
    for (format, expected) in [
        ("q8_0", "number format of an HF directory for llama: q8_0 is not supported"),
        ("mxfp4", "number format of an HF directory for llama: mxfp4 is not supported"),
    ] {
        let out = scratch("nowhere");
        let run = espalier(["quantize", "--model", &model, "--format", format, "--out", &text(&out)]);
        assert_eq!(run.status, 1, "{run:?}");
        assert!(run.stderr.contains(expected), "{run:?}");
        assert!(!out.exists());
    }
    let out = text(&scratch("nowhere.gguf"));
    let run = espalier(["export", "--model", &model, "--format", "gguf", "--dtype", "q2_k", "--out", &out]);
    assert_eq!(run.status, 1, "{run:?}");
    assert!(run.stderr.contains("--dtype is q2_k"), "{run:?}");
}
