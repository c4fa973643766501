//! `/metrics`: that it measures what happened, and that Prometheus' checker has nothing to say.

use std::io::Write as _;
use std::process::{Command, Stdio};

use espalier_components::Limits;

use crate::guests;
use crate::host::{Host, MODEL, Setup, eventually};

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

#[test]
fn what_a_component_counts_is_shown_under_its_name_and_a_flood_is_not() {
    let models = ["measured", "metric-flood"];
    let models = models.into_iter().flat_map(|model| [(model, "original"), (model, "small")]).collect();
    let host = Host::with(Setup { models, ..Setup::default() });
    let router = guests::bytes("fixture-hostile-router");
    host.post_bytes("/admin/v1/components", "application/wasm", &router).success();
    host.complete("measured").success();
    host.complete("measured").success();
    let component = r#"component="fixture-hostile-router","#;
    let requests = format!(r#"{{{component}name="requests",version="0.1.0"}}"#);
    assert_eq!(host.series(&format!("espalier_component_counted_total{requests}")), 2.0);
    let tokens = format!(r#"{{{component}name="prompt_tokens",version="0.1.0"}}"#);
    assert_eq!(host.series(&format!("espalier_component_observed_count{tokens}")), 2.0);
    let within = format!(r#"{{{component}name="prompt_tokens",version="0.1.0",le="1000"}}"#);
    assert_eq!(host.series(&format!("espalier_component_observed_bucket{within}")), 2.0);

    for _ in 0..3 {
        host.complete("metric-flood").success();
    }
    let page = host.get("/metrics?names=espalier").text;
    let counters = page.lines().filter(|line| line.starts_with("espalier_component_counted_total{"));
    assert_eq!(counters.count(), Limits::router().metrics - 1, "{page}");
    assert!(!page.contains("evil"), "{page}");
    let refused = |reason: &str| {
        host.series(&format!(
            r#"espalier_component_metrics_refused_total{{{component}reason="{reason}",version="0.1.0"}}"#
        ))
    };
    assert_eq!((refused("name"), refused("value")), (90.0, 90.0));
    assert!(refused("too_many") >= 70.0);
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
