//! The router component in the path of requests, and what happens when it fails.

use crate::guests;
use crate::host::{Host, Setup};

/// Two variants of a model of this name. The hostile router does what the model's name says.
fn host(model: &'static str, router: &str) -> Host {
    let host = Host::with(Setup { models: vec![(model, "original"), (model, "small")], ..Setup::default() });
    host.post_bytes("/admin/v1/components", "application/wasm", &guests::bytes(router)).success();
    host
}

fn routed(host: &Host, model: &str, variant: &str, by: &str) -> f64 {
    host.series(&format!(
        r#"espalier_routed_requests_total{{by="{by}",model="{model}",variant="{variant}"}}"#
    ))
}

#[test]
fn the_router_picks_and_a_pin_passes_it_by() {
    let host = host("tiny", "least-busy");
    let variant = host.complete("tiny").success()["espalier"]["variant"].as_str().unwrap().to_owned();
    assert_eq!(routed(&host, "tiny", &variant, "router"), 1.0);
    assert_eq!(host.complete("tiny@small").success()["espalier"]["variant"], "small");
    assert_eq!(routed(&host, "tiny", "small", "pin"), 1.0);
    let calls = host.get("/metrics").text;
    assert!(
        calls.contains(r#"espalier_component_calls_total{component="least-busy",outcome="ok",slot="router""#)
    );
}

#[test]
fn a_router_that_fails_leaves_the_request_to_the_default_variant() {
    for model in ["trap", "loop", "refuse", "wrong-index"] {
        let host = host(model, "fixture-hostile-router");
        for _ in 0..2 {
            assert_eq!(host.complete(model).success()["espalier"]["variant"], "original", "{model}");
        }
        assert_eq!(routed(&host, model, "original", "default"), 2.0, "{model}");
        let failures = host.get("/metrics").text;
        let failures = failures.lines().find(|line| line.starts_with("espalier_router_failures_total{"));
        assert!(failures.is_some_and(|line| line.contains(model) && line.ends_with(" 2")), "{failures:?}");
    }
}
