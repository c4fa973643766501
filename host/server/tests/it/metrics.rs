//! `/metrics`: that it measures what happened, and that Prometheus' checker has nothing to say.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::host::{Host, MODEL, eventually};

#[test]
fn requests_and_errors_are_counted_under_both_names() {
    let host = Host::start();
    let body = host.complete(MODEL).success();
    let tokens = body["usage"]["completion_tokens"].as_f64().unwrap();
    host.complete("other").is_refused(404, Some("model"), "model_not_found");
    let ours = r#"{generation="1",model="tiny",variant="original"}"#;
    eventually(|| {
        (host.series(&format!("espalier_request_duration_seconds_count{ours}")) == 1.0).then_some(())
    });
    assert_eq!(host.series(&format!("espalier_generation_tokens_total{ours}")), tokens);
    assert_eq!(host.series(r#"vllm:generation_tokens_total{engine="1",model_name="tiny"}"#), tokens);
    assert_eq!(host.series(r#"espalier_api_errors_total{code="model_not_found"}"#), 1.0);
    let answered = r#"espalier_http_requests_total{method="POST",route="/v1/completions",status="200"}"#;
    assert_eq!(host.series(answered), 1.0);
    let routed = r#"espalier_routed_requests_total{by="default",model="tiny",variant="original"}"#;
    assert_eq!(host.series(routed), 1.0);
    assert_eq!(host.series("espalier_ready"), 1.0);
}

#[test]
fn one_family_of_names_can_be_asked_for() {
    let host = Host::start();
    host.complete(MODEL).success();
    assert!(!host.get("/metrics?names=espalier").text.contains("vllm:"));
    assert!(!host.get("/metrics?names=vllm").text.contains("espalier_"));
    host.get("/metrics?names=x").is_refused(400, Some("query"), "invalid_value");
}

/// Where `promtool` is not installed this says nothing; the end-to-end tests bring it with them.
#[test]
fn promtool_has_nothing_to_say_of_our_names() {
    let host = Host::start();
    host.complete(MODEL).success();
    let metrics = host.get("/metrics?names=espalier").text;
    let check = ["check", "metrics"];
    let check = Command::new("promtool").args(check).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut check) = check else { return };
    check.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
