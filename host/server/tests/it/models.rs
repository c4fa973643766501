//! Loading, replacing and unloading variants while others serve.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::host::{Host, MODEL};

const MODELS: &str = "/admin/v1/models";

#[test]
fn a_variant_is_loaded_and_unloaded() {
    let host = Host::start();
    let path = host.weights(MODEL, "original");
    let loaded = host.post(MODELS, &json!({"model": MODEL, "variant": "copy", "path": path}));
    assert_eq!(loaded.status, 201, "{}", loaded.text);
    assert_eq!(loaded.json()["generation"], 2);
    let listed = host.get(MODELS).success();
    let variants = listed["models"][0]["variants"].as_array().unwrap();
    assert_eq!(variants.len(), 2);
    assert_eq!(listed["models"][0]["default_variant"], "original");
    assert!(variants.iter().all(|variant| variant["parameters"].as_u64() > Some(0)));
    assert_eq!(host.complete("tiny@copy").success()["espalier"], json!({"variant": "copy", "generation": 2}));
    host.delete("/admin/v1/models/tiny/copy").success();
    host.complete("tiny@copy").is_refused(404, Some("model"), "model_not_found");
    host.delete("/admin/v1/models/tiny/copy").is_refused(404, Some("model"), "model_not_found");
    host.complete(MODEL).success();
}

#[test]
fn a_load_that_fails_changes_nothing() {
    let host = Host::start();
    let empty = host.path("empty.gguf");
    std::fs::write(&empty, b"").unwrap();
    for path in [empty, host.path("missing")] {
        let answer = host.post(MODELS, &json!({"model": MODEL, "path": path}));
        answer.is_refused(422, None, "unprocessable");
        assert!(answer.message().contains(path.file_name().unwrap().to_str().unwrap()), "{}", answer.text);
    }
    host.post(MODELS, &json!({"model": "a b", "path": "x"})).is_refused(400, Some("model"), "invalid_value");
    host.post(MODELS, &json!({"model": MODEL})).is_refused(400, Some("path"), "invalid_value");
    let unknown = json!({"model": MODEL, "path": "x", "paht": "y"});
    host.post(MODELS, &unknown).is_refused(400, Some("paht"), "unsupported_parameter");
    assert_eq!(host.complete(MODEL).success()["espalier"]["generation"], 1);
}

#[test]
fn a_variant_is_replaced_under_load_without_losing_a_request() {
    let host = Host::start();
    let path = host.weights(MODEL, "original");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut generations = Vec::new();
                    while !done.load(Ordering::Relaxed) {
                        let answer = host.complete(MODEL).success();
                        generations.push(answer["espalier"]["generation"].as_u64().unwrap());
                    }
                    generations
                })
            })
            .collect();
        for _ in 0..5 {
            host.post(MODELS, &json!({"model": MODEL, "path": path})).success();
        }
        done.store(true, Ordering::Relaxed);
        for client in clients {
            let generations = client.join().unwrap();
            assert!(generations.is_sorted(), "{generations:?}");
        }
    });
    assert_eq!(host.complete(MODEL).success()["espalier"]["generation"], 6);
}
