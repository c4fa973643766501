//! `espalier evaluate` with the metrics of answers gives the figures of sacrebleu and rouge-score for the pairs of
//! `golden/text_metrics.py`, those of `golden/repetition.py` for how varied the answers are, and answers samples itself where
//! the data has no candidate.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::{program, synthetic};

const TOLERANCE: f64 = 1e-6;

fn evaluate(model: &Path, data: &Path, metrics: &str, more: &[&str]) -> Value {
    let paths: Vec<String> =
        metrics.split(',').map(|name| program::component(name).to_str().unwrap().to_owned()).collect();
    let (model, data, metrics) = (model.to_str().unwrap(), data.to_str().unwrap(), paths.join(","));
    let arguments =
        ["evaluate", "--model", model, "--data", data, "--metrics", &metrics, "--no-timing", "--json"];
    let done = program::run(&[arguments.as_slice(), more].concat());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

fn figure(report: &Value, row: usize, name: &str) -> f64 {
    let measurements = report["rows"][row]["measurements"].as_array().unwrap();
    let found = measurements.iter().find(|one| one["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {report}"))["value"].as_f64().unwrap()
}

#[track_caller]
fn is_near(found: f64, expected: f64) {
    assert!((found - expected).abs() <= TOLERANCE, "found {found}, expected {expected}");
}

#[test]
fn the_components_give_the_figures_of_sacrebleu_and_rouge_score() {
    let folder = tempfile::tempdir().unwrap();
    let model = synthetic::model(folder.path(), 1);
    let golden = program::root().join("tests/golden/data/text-metrics");
    for (language, suffixes) in [("en", [("", ""), (".stemmed", " stemmed")].as_slice()), ("zh", &[("", "")])]
    {
        let path = |extension: &str| golden.join(language).with_extension(extension);
        let report = evaluate(&model, &path("jsonl"), "bleu,chrf,rouge", &[]);
        let expected: Value = serde_json::from_str(&fs::read_to_string(path("json")).unwrap()).unwrap();
        let mean = |name: &str| {
            let values = expected["pairs"][name].as_array().unwrap();
            values.iter().map(|value| value.as_f64().unwrap()).sum::<f64>() / values.len() as f64
        };
        for (name, theirs) in [("bleu", "BLEU"), ("chrf", "chrF"), ("chrf-plus-plus", "chrF++")] {
            is_near(figure(&report, 0, name), expected["corpus"][theirs].as_f64().unwrap());
            let signature = expected["signatures"][theirs].as_str().unwrap();
            let notes = report["notes"].as_array().unwrap();
            assert!(notes.iter().any(|note| note.as_str().unwrap().ends_with(signature)), "{notes:?}");
        }
        is_near(figure(&report, 0, "bleu.sentence"), mean("BLEU"));
        for (suffix, their_suffix) in suffixes {
            for (name, theirs) in [
                ("rouge-1", "rouge1"),
                ("rouge-2", "rouge2"),
                ("rouge-l", "rougeL"),
                ("rouge-lsum", "rougeLsum"),
            ] {
                let found = figure(&report, 0, &[name, suffix].concat());
                is_near(found, mean(&[theirs, their_suffix].concat()));
            }
        }
        assert_eq!(report["data"]["samples"], 500);
    }
}

#[test]
fn the_component_counts_repetition_as_pythons_sets_do() {
    let folder = tempfile::tempdir().unwrap();
    let model = synthetic::model(folder.path(), 1);
    let golden = program::root().join("tests/golden/data/text-metrics");
    let expected: Value =
        serde_json::from_str(&fs::read_to_string(golden.join("repetition.json")).unwrap()).unwrap();
    for language in ["en", "zh"] {
        let report = evaluate(&model, &golden.join(language).with_extension("jsonl"), "repetition", &[]);
        for name in ["distinct-1", "distinct-2", "distinct-3", "repetition.4-grams"] {
            is_near(figure(&report, 0, name), expected[language][name].as_f64().unwrap());
        }
        let measured = report["rows"][0]["measurements"].as_array().unwrap();
        let repeated = measured.iter().find(|one| one["name"] == "repetition.4-grams").unwrap();
        let error = expected[language]["standard-error"].as_f64().unwrap();
        is_near(repeated["standard_error"].as_f64().unwrap(), error);
    }
}

#[test]
fn the_model_answers_as_it_generates_and_is_compared_with_its_baseline() {
    let folder = tempfile::tempdir().unwrap();
    let (model, baseline) = (synthetic::model(folder.path(), 1), synthetic::model(folder.path(), 2));
    let prompts = ["The state of the union is", "Gentlemen of the Senate,"];
    let answer = |prompt: &str| {
        let generated = program::run(&[
            "generate",
            "--raw",
            "--precision",
            "exact",
            "--max-tokens",
            "12",
            "--model",
            model.to_str().unwrap(),
            "--prompt",
            prompt,
        ]);
        String::from_utf8(generated.stdout).unwrap()
    };
    let lines: Vec<String> = prompts
        .iter()
        .map(|prompt| json!({"prompt": prompt, "reference": [answer(prompt), "something else"]}).to_string())
        .collect();
    let data = folder.path().join("questions.jsonl");
    // A text long enough for the windows of agreement.
    fs::write(&data, [lines.join("\n"), "\n".to_owned()].concat().repeat(20)).unwrap();
    let more = ["--baseline", baseline.to_str().unwrap(), "--answer-tokens", "12"];
    let report = evaluate(&model, &data, "exact-match,agreement,repetition,speed", &more);
    assert_eq!(figure(&report, 1, "exact-match"), 1.0);
    assert!(figure(&report, 0, "exact-match") < 1.0);
    assert!(figure(&report, 1, "agreement.kl") > 0.0);
    let share = figure(&report, 1, "distinct-1");
    assert!(share > 0.0 && share <= 1.0, "{share}");
    let (latency, first) =
        (figure(&report, 1, "speed.latency-p50-ms"), figure(&report, 1, "speed.first-token-p50-ms"));
    assert!(first > 0.0 && first < latency, "{first} ms to the first token of {latency} ms");
    assert!(figure(&report, 1, "speed.latency-p99-ms") >= latency);
    assert!(figure(&report, 1, "speed.ms-per-token") > 0.0);
    assert!(figure(&report, 1, "speed.tokens-per-second") > 0.0);
}

#[test]
fn a_line_that_is_no_sample_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data.jsonl");
    fs::write(&data, "{\"prompt\": \"a\", \"reference\": \"b\"}\n{\"prompt\": \"a\", \"reference\": 5}\n")
        .unwrap();
    let done = program::run(&["evaluate", "--model", "none", "--data", data.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    let expected = "data.jsonl, line 2: the field \"reference\" is 5, expected a text or a list of texts";
    assert!(said.contains(expected), "{said}");
}
