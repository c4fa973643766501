//! Health, readiness, and what every answer has.

use serde_json::json;

use crate::host::{Host, MODEL, Setup};

#[test]
fn a_host_without_a_model_is_alive_and_not_ready() {
    let host = Host::with(Setup { models: Vec::new(), ..Setup::default() });
    assert_eq!(host.get("/health").success()["status"], "alive");
    let answer = host.get("/ready");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json(), json!({"ready": false, "reasons": ["no model is loaded"]}));
    assert_eq!(host.series("espalier_ready"), 0.0);
}

#[test]
fn readiness_goes_and_comes() {
    let host = Host::start();
    assert_eq!(host.get("/ready").status, 200);
    let latch = host.application.readiness().latch();
    assert_eq!(host.get("/ready").status, 503);
    drop(latch);
    assert_eq!(host.get("/ready").status, 200);
    host.delete("/admin/v1/models/tiny/original").success();
    assert_eq!(host.get("/ready").status, 503);
    assert_eq!(host.complete(MODEL).status, 404);
}

#[test]
fn the_public_listener_knows_no_admin_path() {
    let host = Host::start();
    let url = format!("http://{}/admin/v1/models", host.public());
    let answer = ureq::get(url).config().http_status_as_error(false).build().call().unwrap();
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
}
