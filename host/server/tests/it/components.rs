//! Deploying, activating and rolling back components by HTTP.

use serde_json::json;

use crate::guests;
use crate::host::{Answer, Host, MODEL};

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
