//! Jobs by HTTP: what is refused, what is reported, what comes out.

use serde_json::{Value, json};

use crate::guests;
use crate::host::{Host, MODEL};

const JOBS: &str = "/admin/v1/jobs";

fn host() -> Host {
    let host = Host::start();
    let text = "Four score and seven years ago our fathers brought forth a new nation. ".repeat(40);
    std::fs::write(host.path("text.txt"), text).unwrap();
    for name in ["activation-norm", "perplexity"] {
        host.post_bytes("/admin/v1/components", "application/wasm", &guests::bytes(name)).success();
    }
    host
}

fn prune(host: &Host, out: &str) -> Value {
    json!({
        "kind": "prune", "model": MODEL, "policy": "activation-norm", "units": ["head", "ffn-channel"],
        "keep": 0.8, "calibration": host.path("text.txt"), "windows": 4, "window_tokens": 128,
        "out": host.path(out),
    })
}

#[test]
fn a_pruning_reports_its_progress_and_its_result_is_served() {
    let host = host();
    let mut body = prune(&host, "pruned");
    body["load_as"] = json!("80");
    let started = host.post(JOBS, &body);
    assert_eq!(started.status, 202, "{}", started.text);
    let id = started.json()["id"].as_u64().unwrap();
    let events = host.get(&format!("{JOBS}/{id}/events"));
    assert_eq!(events.header("content-type"), "text/event-stream");
    let names: Vec<_> = events.text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!((names.first(), names.last()), (Some(&"job"), Some(&"job")), "{}", events.text);
    let last = events.text.lines().rev().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let job: Value = serde_json::from_str(last).unwrap();
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!(job["result"]["loaded"], json!({"variant": "80", "generation": 2}));
    let parameters = |part: &str| job["result"][part]["parameters"].as_u64().unwrap();
    assert!(parameters("after") < parameters("before"), "{job}");
    assert_eq!(host.complete("tiny@80").success()["espalier"]["generation"], 2);
    assert_eq!(host.get(JOBS).success()["jobs"][0]["id"], id);
    assert_eq!(host.series(r#"espalier_jobs{kind="prune",state="succeeded"}"#), 1.0);
}

#[test]
fn an_evaluation_compares_two_variants() {
    let host = host();
    let path = host.weights(MODEL, "original");
    let copy = json!({"model": MODEL, "variant": "copy", "path": path});
    host.post("/admin/v1/models", &copy).success();
    let body = json!({
        "kind": "evaluate", "model": MODEL, "variant": "copy", "baseline": "original",
        "data": host.path("text.txt"), "metrics": ["perplexity"], "max_tokens": 1200,
    });
    let id = host.post(JOBS, &body).success()["id"].as_u64().unwrap();
    let job = host.job(id);
    assert_eq!(job["state"], "succeeded", "{job}");
    let rows = job["result"]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["measurements"], rows[1]["measurements"]);
    // One call for each of the two variants.
    let component = r#"component="perplexity",outcome="ok",slot="metric/perplexity",version="0.1.0""#;
    assert_eq!(host.series(&format!("espalier_component_calls_total{{{component}}}")), 2.0);
}

#[test]
fn calls_of_policies_are_counted_with_what_they_fail_by() {
    let host = host();
    let trap = guests::bytes("fixture-trap-policy");
    host.post_bytes("/admin/v1/components", "application/wasm", &trap).success();
    for (policy, state) in [("activation-norm", "succeeded"), ("fixture-trap-policy", "failed")] {
        let mut body = prune(&host, policy);
        body["policy"] = json!(policy);
        let id = host.post(JOBS, &body).success()["id"].as_u64().unwrap();
        assert_eq!(host.job(id)["state"], state);
    }
    let calls = |component: &str, outcome: &str| {
        host.series(&format!(
            r#"espalier_component_calls_total{{component="{component}",outcome="{outcome}",slot="scoring/{component}",version="0.1.0"}}"#
        ))
    };
    // At least: begin, four windows in each layer, and the scores of two units.
    assert!(calls("activation-norm", "ok") > 6.0);
    assert_eq!(calls("activation-norm", "trap"), 0.0);
    assert_eq!(calls("fixture-trap-policy", "trap"), 1.0);
    let seconds = r#"espalier_component_call_seconds_count{component="activation-norm",slot="scoring/activation-norm",version="0.1.0"}"#;
    assert_eq!(host.series(seconds), calls("activation-norm", "ok"));
}

#[test]
fn a_job_that_cannot_work_is_refused_before_it_waits() {
    let host = host();
    std::fs::create_dir(host.path("taken")).unwrap();
    for (field, value, status, code) in [
        ("kind", json!("cut"), 400, "invalid_value"),
        ("model", json!("other"), 404, "model_not_found"),
        ("variant", json!("other"), 404, "model_not_found"),
        ("policy", json!("no-such-policy"), 400, "invalid_value"),
        ("units", json!([]), 400, "invalid_value"),
        ("units", json!(["leaf"]), 400, "invalid_value"),
        ("keep", json!(0), 400, "invalid_value"),
        ("keep", json!("most"), 400, "invalid_value"),
        ("calibration", json!("/no/such/file"), 400, "invalid_value"),
        ("out", json!(host.path("taken")), 400, "invalid_value"),
        ("load_as", json!("a b"), 400, "invalid_value"),
        ("no_such_field", json!(1), 400, "unsupported_parameter"),
    ] {
        let mut body = prune(&host, "never");
        body[field] = value;
        let answer = host.post(JOBS, &body);
        assert_eq!(answer.status, status, "{field}: {}", answer.text);
        let error = answer.json()["error"].clone();
        // A variant that is not there is part of the model's address.
        let expected = if field == "variant" { "model" } else { field };
        assert!(
            error["param"].as_str().is_some_and(|param| param.starts_with(expected)),
            "{field}: {}",
            answer.text
        );
        assert_eq!(error["code"], code, "{field}: {}", answer.text);
    }
    // A file of the host's machine that nobody deployed or signed is not taken, be it a component or not.
    let file = std::env::var("ESPALIER_COMPONENTS_DIR").map(|folder| format!("{folder}/random.wasm"));
    let mut unsigned = prune(&host, "never");
    unsigned["policy"] = json!(file.unwrap_or_else(|_| "/tmp/random.wasm".to_owned()));
    host.post(JOBS, &unsigned).is_refused(400, Some("policy"), "invalid_value");
    let mut missing = prune(&host, "never");
    missing.as_object_mut().unwrap().remove("keep");
    host.post(JOBS, &missing).is_refused(400, Some("keep"), "invalid_value");
    assert_eq!(host.get(JOBS).success()["jobs"], json!([]));
}

#[test]
fn a_job_is_cancelled_and_leaves_nothing() {
    let host = host();
    let first = host.post(JOBS, &prune(&host, "first")).success()["id"].as_u64().unwrap();
    let second = host.post(JOBS, &prune(&host, "second")).success()["id"].as_u64().unwrap();
    let cancelled = host.delete(&format!("{JOBS}/{second}"));
    // It may have been taken up and even finished by now; what it must not be is lost.
    assert!([202, 409].contains(&cancelled.status), "{}", cancelled.text);
    let job = host.job(second);
    assert_eq!(job["state"] == "succeeded", host.path("second").exists(), "{job}");
    assert_eq!(host.job(first)["state"], "succeeded");
    host.delete(&format!("{JOBS}/{first}")).is_refused(409, Some("id"), "conflict");
    host.delete(&format!("{JOBS}/99")).is_refused(404, Some("id"), "not_found");
    host.get(&format!("{JOBS}/x")).is_refused(400, Some("id"), "invalid_value");
    host.get(&format!("{JOBS}/99/events")).is_refused(404, Some("id"), "not_found");
}
