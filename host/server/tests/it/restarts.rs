//! A host that starts again on its state directory serves what was loaded into the one before.

use serde_json::{Value, json};

use crate::host::{Host, MODEL, Setup};

const MODELS: &str = "/admin/v1/models";

fn load(host: &Host, model: &str, variant: &str, path: &std::path::Path) -> Value {
    host.post(MODELS, &json!({"model": model, "variant": variant, "path": path})).success()
}

#[test]
fn loaded_variants_are_served_after_a_restart_and_unloaded_ones_are_not() {
    let host = Host::start();
    let weights = host.weights(MODEL, "original");
    for (model, variant) in [("other", "second"), ("other", "first"), (MODEL, "copy"), (MODEL, "gone")] {
        load(&host, model, variant, &weights);
    }
    host.delete("/admin/v1/models/tiny/gone").success();
    let host = host.restart(Setup::default());
    let listed = host.get(MODELS).success();
    let variants: Vec<(&str, Vec<&str>)> =
        listed["models"].as_array().unwrap().iter().map(variants).collect();
    // The variants of the command line come first, the others in the order in which they were loaded.
    assert_eq!(variants, [("other", vec!["second", "first"]), (MODEL, vec!["original", "copy"])]);
    assert_eq!(listed["not_loaded"], json!([]));
    assert_eq!(host.complete("tiny@copy").success()["espalier"]["variant"], "copy");
    assert_eq!(host.complete("other").success()["espalier"]["variant"], "second");
    host.complete("tiny@gone").is_refused(404, Some("model"), "model_not_found");
}

fn variants(model: &Value) -> (&str, Vec<&str>) {
    let variants = model["variants"].as_array().unwrap();
    (model["model"].as_str().unwrap(), variants.iter().filter_map(|one| one["variant"].as_str()).collect())
}

#[test]
fn a_variant_comes_back_with_its_draft() {
    let host = Host::start();
    let weights = host.weights(MODEL, "original");
    let body = json!({"model": MODEL, "variant": "drafted", "path": weights, "draft": weights});
    host.post(MODELS, &body).success();
    let host = host.restart(Setup::default());
    let drafted = host.get(MODELS).success()["models"][0]["variants"][1].clone();
    assert_eq!((&drafted["variant"], &drafted["draft"]), (&json!("drafted"), &json!(weights)));
    let answer = |variant: &str| {
        let body = json!({"model": format!("{MODEL}@{variant}"), "prompt": "four", "max_tokens": 40, "temperature": 0});
        host.post("/v1/completions", &body).success()["choices"].clone()
    };
    assert_eq!(answer("drafted"), answer("original"));
}

#[test]
fn the_command_line_wins_over_a_record() {
    let host =
        Host::with(Setup { models: vec![(MODEL, "original"), ("other", "original")], ..Setup::default() });
    let (own, other) = (host.weights(MODEL, "original"), host.weights("other", "original"));
    load(&host, MODEL, "original", &other);
    let path = |host: &Host| host.get(MODELS).success()["models"][0]["variants"][0]["path"].clone();
    let host = host.restart(Setup::default());
    assert_eq!(path(&host), json!(own));
    // Where it does not name the address, the record is what is served.
    let host = host.restart(Setup { models: Vec::new(), ..Setup::default() });
    assert_eq!(path(&host), json!(other));
}

#[test]
fn a_record_without_its_checkpoint_is_shown_until_it_is_unloaded() {
    let host = Host::start();
    let moved = host.path("moved");
    std::fs::rename(host.weights(MODEL, "original"), &moved).unwrap();
    load(&host, MODEL, "copy", &moved);
    std::fs::remove_dir_all(&moved).unwrap();
    let mut host = host;
    for _ in 0..2 {
        host = host.restart(Setup::default());
        let missing = host.get(MODELS).success()["not_loaded"].clone();
        assert_eq!((&missing[0]["variant"], &missing[0]["path"]), (&json!("copy"), &json!(moved)));
        assert!(missing[0]["problem"].as_str().is_some_and(|problem| problem.contains("moved")), "{missing}");
        host.complete(MODEL).success();
    }
    host.delete("/admin/v1/models/tiny/copy").success();
    host.delete("/admin/v1/models/tiny/copy").is_refused(404, Some("model"), "model_not_found");
    let host = host.restart(Setup::default());
    assert_eq!(host.get(MODELS).success()["not_loaded"], json!([]));
}
