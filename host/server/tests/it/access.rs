//! Who may use the admin listener.

use serde_json::json;

use crate::guests;
use crate::host::{Host, Setup};

const MODELS: &str = "/admin/v1/models";

#[test]
fn a_token_is_asked_for_and_checked() {
    let host = Host::with(Setup { admin_token: Some("secret".into()), ..Setup::default() });
    let refused = host.get(MODELS);
    refused.is_refused(401, Some("authorization"), "unauthorized");
    assert_eq!(refused.header("www-authenticate"), "Bearer");
    let wrong = host.get_with(MODELS, &[("authorization", "Bearer secreT")]);
    wrong.is_refused(401, Some("authorization"), "unauthorized");
    host.get_with(MODELS, &[("authorization", "Bearer secret")]).success();
    // A path that does not exist is no way to learn anything without the token.
    host.get("/admin/v1/nothing").is_refused(401, Some("authorization"), "unauthorized");
    host.get("/health").success();
}

#[test]
fn a_page_that_rebinds_its_name_is_kept_out() {
    let host = Host::start();
    host.get_with(MODELS, &[("host", "evil.example:8001")]).is_refused(403, Some("host"), "forbidden_host");
    let origin = [("origin", "http://evil.example")];
    host.get_with(MODELS, &origin).is_refused(403, Some("origin"), "forbidden_host");
    let own = format!("http://{}", host.admin());
    host.get_with(MODELS, &[("origin", &own)]).success();
}

#[test]
fn what_a_form_of_another_page_can_send_is_not_read() {
    let host = Host::start();
    let body = json!({"model": "tiny", "path": "/nowhere"}).to_string();
    let answer = host.post_bytes(MODELS, "text/plain", body.as_bytes());
    answer.is_refused(415, Some("content-type"), "unsupported_media_type");
    let answer = host.post_bytes("/admin/v1/components", "text/plain", &guests::bytes("least-busy"));
    answer.is_refused(415, Some("content-type"), "unsupported_media_type");
}

#[test]
fn an_open_address_needs_a_token() {
    let host = Host::start();
    let addresses = espalier_server::Addresses {
        public: "127.0.0.1:0".parse().unwrap(),
        admin: "0.0.0.0:0".parse().unwrap(),
        admin_token: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bound = runtime.block_on(espalier_server::Server::bind(host.application.clone(), addresses));
    let Err(error) = bound else { panic!("an open admin listener without a token") };
    assert!(error.to_string().contains("--admin-token"), "{error}");
}
