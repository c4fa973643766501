//! Deploying, activating and rolling back components by HTTP.

use serde_json::json;

use crate::guests;
use crate::host::{Answer, Host, MODEL, Setup};

const COMPONENTS: &str = "/admin/v1/components";

fn deploy(host: &Host, query: &str, name: &str) -> Answer {
    host.post_bytes(&format!("{COMPONENTS}{query}"), "application/wasm", &guests::bytes(name))
}

#[test]
fn a_component_is_deployed_activated_rolled_back_and_removed() {
    let host = Host::start();
    let first = deploy(&host, "", "least-busy");
    assert_eq!(first.status, 201, "{}", first.text);
    let first = first.json();
    assert_eq!(first["activation"]["slot"], "router");
    assert_eq!(first["activation"]["revision"], 1);
    assert_eq!(first["component"]["active_in"], json!(["router"]));
    // The same bytes again are the same component.
    let again = deploy(&host, "?activate=false", "least-busy");
    assert_eq!((again.status, again.json()["created"].as_bool()), (200, Some(false)));

    let second = deploy(&host, "?expected_revision=1", "fixture-hostile-router").success();
    assert_eq!(second["activation"]["revision"], 2);
    let digest = second["component"]["digest"].as_str().unwrap();
    host.delete(&format!("{COMPONENTS}/{digest}")).is_refused(409, Some("component"), "conflict");

    let back = json!({"slot": "router", "expected_revision": 2});
    let back = host.post("/admin/v1/slots/rollback", &back).success();
    assert_eq!(
        (back["revision"].as_u64(), back["digest"].as_str()),
        (Some(3), first["component"]["digest"].as_str())
    );
    let stale = json!({"slot": "router", "component": digest, "expected_revision": 2});
    let stale = host.post("/admin/v1/slots/activate", &stale);
    stale.is_refused(409, Some("expected_revision"), "conflict");
    assert_eq!(stale.json()["error"]["found"], 3);

    host.delete(&format!("{COMPONENTS}/{digest}")).success();
    host.get(&format!("{COMPONENTS}/{digest}")).is_refused(404, Some("component"), "not_found");
    let slots = host.get("/admin/v1/slots").success();
    assert_eq!(slots["slots"][0]["component"], first["activation"]["component"]);
    host.complete(MODEL).success();
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let host = Host::start();
    deploy(&host, "", "least-busy").success();
    let post = |bytes: &[u8]| host.post_bytes(COMPONENTS, "application/wasm", bytes);
    post(b"no component").is_refused(422, Some("component"), "unprocessable");
    post(b"").is_refused(422, Some("component"), "unprocessable");
    deploy(&host, "", "fixture-wrong-world").is_refused(422, Some("component"), "unprocessable");
    deploy(&host, "?slot=router", "perplexity").is_refused(422, Some("component"), "unprocessable");
    deploy(&host, "?slot=nothing", "perplexity").is_refused(400, Some("slot"), "invalid_value");
    deploy(&host, "?activat=true", "perplexity").is_refused(400, Some("query"), "invalid_value");
    let listed = host.get(COMPONENTS).success();
    assert_eq!(listed["components"].as_array().unwrap().len(), 1);
    assert_eq!(listed["slots"][0]["revision"], 1);
    let body = json!({"slot": "router", "component": "nothing"});
    host.post("/admin/v1/slots/activate", &body).is_refused(404, Some("component"), "not_found");
    let body = json!({"slot": "router"});
    host.post("/admin/v1/slots/rollback", &body).is_refused(409, Some("slot"), "conflict");
    let body = json!({"slot": "router", "komponent": "x", "component": "y"});
    host.post("/admin/v1/slots/activate", &body).is_refused(400, Some("komponent"), "unsupported_parameter");
}

#[test]
fn a_configuration_is_checked_before_anything_is_stored_and_shown_afterwards() {
    let host = Host::start();
    let refused = deploy(&host, "?configuration=%7B%22weights%22:%22original%22%7D", "weighted-split");
    refused.is_refused(422, Some("component"), "unprocessable");
    assert!(refused.message().contains("expected VARIANT:NUMBER"), "{}", refused.message());
    for (configuration, param) in
        [("%5B%5D", "configuration"), ("%7B%22a%22:1%7D", "configuration.a"), ("x", "configuration")]
    {
        let query = format!("?configuration={configuration}");
        deploy(&host, &query, "weighted-split").is_refused(400, Some(param), "invalid_value");
    }
    let long = format!("?configuration=%7B%22weights%22:%22{}%22%7D", "x".repeat(20_000));
    deploy(&host, &long, "weighted-split").is_refused(400, Some("configuration"), "invalid_value");
    assert_eq!(host.get(COMPONENTS).success()["components"], json!([]));
    let query = "?configuration=%7B%22weights%22:%22original:2%22%7D";
    let deployed = deploy(&host, query, "weighted-split").success();
    let told = json!({"weights": "original:2"});
    assert_eq!(deployed["activation"]["configuration"], told);
    let inspected = host.get(&format!("{COMPONENTS}/weighted-split")).success();
    let place = json!({"slot": "router", "canary": false, "weight": 1.0, "configuration": told});
    assert_eq!(inspected["places"], json!([place]));
}

#[test]
fn a_canary_is_tried_counted_promoted_and_rolled_back() {
    let models = || vec![(MODEL, "original"), (MODEL, "small")];
    let host = Host::with(Setup { models: models(), ..Setup::default() });
    deploy(&host, "", "least-busy").success();
    deploy(&host, "?activate=false", "fallback-chain").success();
    let canary = |body| host.post("/admin/v1/slots/canary", &body);
    let wrong = canary(json!({"component": "fallback-chain", "weight": 0}));
    wrong.is_refused(400, Some("weight"), "invalid_value");
    canary(json!({"component": "fallback-chain"})).is_refused(400, Some("weight"), "invalid_value");
    canary(json!({"component": "perplexity", "weight": 0.5})).is_refused(404, Some("component"), "not_found");
    let tried = canary(json!({
        "component": "fallback-chain@0.1.0", "weight": 0.25, "configuration": {"order": "small"},
        "expected_revision": 1,
    }))
    .success();
    assert_eq!((tried["slot"].as_str(), tried["revision"].as_u64()), (Some("router"), Some(2)));
    assert_eq!((&tried["component"], &tried["canary"]["weight"]), (&json!("least-busy@0.1.0"), &json!(0.25)));
    for _ in 0..40 {
        host.complete(MODEL).success();
    }
    let calls = |host: &Host, component: &str| {
        host.series(&format!(
            r#"espalier_component_calls_total{{component="{component}",outcome="ok",slot="router",version="0.1.0"}}"#
        ))
    };
    let found = (calls(&host, "least-busy"), calls(&host, "fallback-chain"));
    assert!(found.0 + found.1 == 40.0 && (8.0..=12.0).contains(&found.1), "{found:?}");
    let weight = |host: &Host, component: &str, role: &str| {
        host.series(&format!(
            r#"espalier_component_weight{{component="{component}",role="{role}",slot="router",version="0.1.0"}}"#
        ))
    };
    assert_eq!(weight(&host, "least-busy", "active"), 0.75);
    assert_eq!(weight(&host, "fallback-chain", "canary"), 0.25);

    let host = host.restart(Setup { models: models(), ..Setup::default() });
    let slot = host.get("/admin/v1/slots").success()["slots"][0].clone();
    assert_eq!((&slot["canary"], &slot["revision"]), (&tried["canary"], &tried["revision"]));
    let promoted = host.post("/admin/v1/slots/promote", &json!({"slot": "router"})).success();
    assert_eq!(promoted["configuration"], json!({"order": "small"}));
    assert_eq!(host.complete(MODEL).success()["espalier"]["variant"], "small");
    assert_eq!(weight(&host, "fallback-chain", "active"), 1.0);
    assert_eq!(weight(&host, "least-busy", "active"), 0.0);
    host.post("/admin/v1/slots/promote", &json!({"slot": "router"})).is_refused(
        409,
        Some("slot"),
        "conflict",
    );
    let back = host.post("/admin/v1/slots/rollback", &json!({"slot": "router"})).success();
    assert_eq!(back["component"], "least-busy@0.1.0");
}
