//! The router component in the path of requests, and what happens when it fails.

use std::sync::atomic::{AtomicBool, Ordering};

use espalier_engine::EngineConfig;
use serde_json::json;

use crate::guests;
use crate::host::{Host, Setup, eventually};

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

fn configured(setup: Setup, router: &str, configuration: &serde_json::Value) -> Host {
    let host = Host::with(Setup { models: vec![("tiny", "original"), ("tiny", "small")], ..setup });
    let deployed =
        host.post_bytes("/admin/v1/components?activate=false", "application/wasm", &guests::bytes(router));
    let component = deployed.success()["component"]["digest"].clone();
    let body = json!({"slot": "router", "component": component, "configuration": configuration});
    host.post("/admin/v1/slots/activate", &body).success();
    host
}

fn variant_for(host: &Host, fields: &serde_json::Value) -> String {
    let mut body = json!({"model": "tiny", "prompt": "four", "max_tokens": 2, "temperature": 0});
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    host.post("/v1/completions", &body).success()["espalier"]["variant"].as_str().unwrap().to_owned()
}

#[test]
fn a_session_stays_with_its_variant() {
    let host = configured(Setup::default(), "weighted-split", &json!({"weights": "original:1, small:1"}));
    let of = |fields: serde_json::Value| variant_for(&host, &fields);
    let first: Vec<_> = (0..16).map(|n| of(json!({"session_id": format!("s{n}")}))).collect();
    for _ in 0..3 {
        let again: Vec<_> = (0..16).map(|n| of(json!({"session_id": format!("s{n}")}))).collect();
        assert_eq!(again, first);
    }
    assert!(first.contains(&"original".to_owned()) && first.contains(&"small".to_owned()), "{first:?}");
    let users: Vec<_> = (0..16).map(|n| of(json!({"user": format!("u{n}")}))).collect();
    let again: Vec<_> = (0..16).map(|n| of(json!({"user": format!("u{n}")}))).collect();
    assert_eq!(users, again);
    // Without a session each request is drawn: 40 of one kind in a row are as likely as 2^-39.
    let drawn: std::collections::BTreeSet<_> = (0..40).map(|_| of(json!({}))).collect();
    assert_eq!(drawn.len(), 2);
}

#[test]
fn a_quality_that_is_asked_for_reaches_the_router() {
    let configuration = json!({"qualities": "original:1, small:0.5"});
    let host = configured(Setup::default(), "length-and-quality", &configuration);
    for (fields, variant) in
        [(json!({"quality": 0.4}), "small"), (json!({"quality": 0.6}), "original"), (json!({}), "original")]
    {
        assert_eq!(variant_for(&host, &fields), variant, "{fields}");
    }
    let body = json!({"model": "tiny", "prompt": "four", "quality": 2});
    host.post("/v1/completions", &body).is_refused(400, Some("quality"), "invalid_value");
    let body = json!({"model": "tiny", "prompt": "four", "qualitiy": 1});
    host.post("/v1/completions", &body).is_refused(400, Some("qualitiy"), "unsupported_parameter");
}

/// Keeps the queue of `tiny@VARIANT` full with requests of its own while `test` runs. With the limits of [`narrow`] one
/// runs, one waits, and the rest are refused.
fn while_full(host: &Host, variant: &str, test: impl FnOnce()) {
    let done = AtomicBool::new(false);
    let body = json!({
        "model": format!("tiny@{variant}"), "prompt": "four", "max_tokens": 200, "ignore_eos": true, "n": 1,
    });
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    host.post("/v1/completions", &body);
                }
            });
        }
        // Whatever the test finds, the threads end.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
        done.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn narrow() -> Setup {
    let setup = Setup::default();
    Setup { config: EngineConfig { max_sequences: 1, queue_limit: 1, ..setup.config }, ..setup }
}

#[test]
fn the_next_variant_answers_where_one_is_full() {
    let host = configured(narrow(), "fallback-chain", &json!({"order": "original, small"}));
    assert_eq!(variant_for(&host, &json!({})), "original");
    while_full(&host, "original", || {
        eventually(|| (variant_for(&host, &json!({})) == "small").then_some(()));
        for _ in 0..20 {
            // Nobody is refused, whoever answers.
            variant_for(&host, &json!({}));
        }
    });
    assert!(routed(&host, "tiny", "small", "fallback") >= 1.0);
    assert!(routed(&host, "tiny", "original", "router") >= 1.0);
    // A router that names one variant has no other to fall back to.
    let only = json!({"slot": "router", "component": "fallback-chain",
        "configuration": {"order": "original", "others": "never"}});
    host.post("/admin/v1/slots/activate", &only).success();
    while_full(&host, "original", || {
        let refused = eventually(|| Some(host.complete("tiny")).filter(|answer| answer.status == 429));
        refused.is_refused(429, None, "queue_full");
    });
}

#[test]
fn the_next_variant_answers_where_one_drains() {
    let host = configured(Setup::default(), "fallback-chain", &json!({"order": "original, small"}));
    // As a variant does that is being replaced, for as long as somebody still finds it.
    host.application.registry().variant("tiny", "original").unwrap().engine().drain();
    for done in 1..=5 {
        assert_eq!(variant_for(&host, &json!({})), "small");
        assert_eq!(routed(&host, "tiny", "small", "fallback"), f64::from(done));
    }
    host.complete("tiny@original").is_refused(503, None, "unavailable");
    assert_eq!(routed(&host, "tiny", "original", "router"), 0.0);
}

fn shadowed(host: &Host, outcome: &str) -> f64 {
    host.series(&format!(
        r#"espalier_shadow_requests_total{{model="tiny",outcome="{outcome}",variant="small"}}"#
    ))
}

#[test]
fn copies_go_to_the_shadow_and_answers_come_from_the_other() {
    let host = configured(Setup::default(), "shadow", &json!({"to": "small", "share": "1"}));
    for done in 1..=5 {
        assert_eq!(variant_for(&host, &json!({})), "original");
        let finished = || shadowed(&host, "finished");
        eventually(|| (finished() == f64::from(done)).then_some(()));
    }
    // A chat is copied like a text, with all its choices.
    let chat =
        json!({"model": "tiny", "messages": [{"role": "user", "content": "four"}], "max_tokens": 2, "n": 2});
    host.post("/v1/chat/completions", &chat).success();
    eventually(|| (shadowed(&host, "finished") == 6.0).then_some(()));
    assert_eq!((shadowed(&host, "dropped"), shadowed(&host, "failed")), (0.0, 0.0));
    // The shadow really computed: seven sequences of at most two tokens, each of one at least.
    let tokens =
        host.series(r#"espalier_generation_tokens_total{generation="2",model="tiny",variant="small"}"#);
    assert!((7.0..=14.0).contains(&tokens), "{tokens}");
    assert_eq!(routed(&host, "tiny", "small", "router"), 0.0);
}

#[test]
fn copies_make_way_for_requests_and_never_fail_one() {
    let host = configured(narrow(), "shadow", &json!({"to": "small", "share": "1"}));
    while_full(&host, "small", || {
        eventually(|| {
            assert_eq!(variant_for(&host, &json!({})), "original");
            (shadowed(&host, "dropped") >= 5.0).then_some(())
        });
    });
    assert_eq!(shadowed(&host, "failed"), 0.0);
    // With nobody in the way copies are computed again.
    let before = shadowed(&host, "finished");
    variant_for(&host, &json!({}));
    eventually(|| (shadowed(&host, "finished") > before).then_some(()));
}

#[test]
fn a_share_of_the_requests_is_copied() {
    let host = configured(Setup::default(), "shadow", &json!({"to": "small", "share": "0"}));
    for _ in 0..10 {
        variant_for(&host, &json!({}));
    }
    let outcomes = ["finished", "dropped", "failed"];
    assert_eq!(outcomes.map(|outcome| shadowed(&host, outcome)), [0.0; 3]);
    // A pinned request is no router's affair.
    let all =
        json!({"slot": "router", "component": "shadow", "configuration": {"to": "small", "share": "1"}});
    host.post("/admin/v1/slots/activate", &all).success();
    host.complete("tiny@original").success();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(outcomes.map(|outcome| shadowed(&host, outcome)), [0.0; 3]);
}
