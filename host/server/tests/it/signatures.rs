//! Signed components by HTTP, and what a component's details say of its rights.

use std::fs;

use espalier_components::{HostConfig, Limits, SigningKey, TrustedKeys};
use espalier_state::Digest;

use crate::guests;
use crate::host::{Host, Setup};

const COMPONENTS: &str = "/admin/v1/components";

#[test]
fn an_upload_needs_a_trusted_signature() {
    let folder = tempfile::tempdir().unwrap();
    let (file, key) = (folder.path().join("keys"), SigningKey::from_seed(&[1; 32]));
    fs::write(&file, key.public().line("ada").unwrap()).unwrap();
    let trusted_keys = Some(TrustedKeys::read(&file).unwrap());
    let components = HostConfig { trusted_keys, ..HostConfig::default() };
    let host = Host::with(Setup { components, ..Setup::default() });
    let router = guests::bytes("least-busy");
    let deploy = |query: &str, bytes: &[u8]| {
        host.post_bytes(&format!("{COMPONENTS}{query}"), "application/wasm", bytes)
    };
    let signed = |key: &SigningKey| {
        format!("?signature={}", key.sign(Digest::of(&router)).to_string().replace(' ', "%20"))
    };

    for query in ["", "?activate=false"] {
        deploy(query, &router).is_refused(403, Some("signature"), "untrusted_component");
        deploy(query, b"no component").is_refused(403, Some("signature"), "untrusted_component");
    }
    let eve = SigningKey::from_seed(&[2; 32]);
    deploy(&signed(&eve), &router).is_refused(403, Some("signature"), "untrusted_component");
    deploy(&signed(&key), b"no component").is_refused(403, Some("signature"), "untrusted_component");
    deploy("?signature=ada", &router).is_refused(400, Some("signature"), "invalid_value");
    assert_eq!(host.get(COMPONENTS).success()["components"].as_array().unwrap().len(), 0);

    let deployed = deploy(&signed(&key), &router).success();
    assert_eq!(deployed["component"]["signer"], "ada");
    let details = host.get(&format!("{COMPONENTS}/least-busy")).success();
    let signature = details["signature"].as_str().unwrap();
    assert!(signature.starts_with(&format!("ed25519 {}", key.public())), "{signature}");
}

#[test]
fn the_details_say_what_a_component_may_do() {
    let router = Limits { memory_bytes: 12 << 20, ..Limits::router() };
    let components = HostConfig { router, ..HostConfig::default() };
    let host = Host::with(Setup { components, ..Setup::default() });
    host.post_bytes(COMPONENTS, "application/wasm", &guests::bytes("least-busy")).success();
    let details = host.get(&format!("{COMPONENTS}/least-busy")).success();
    assert_eq!(details["name"], "least-busy");
    assert_eq!(details["signature"], serde_json::Value::Null);
    assert_eq!(details["grants"].as_array().map(Vec::len), Some(0));
    // The limits that are enforced, not their defaults.
    assert_eq!(details["limits"]["memory_bytes"], 12 << 20);
    assert_eq!(details["limits"]["guest_time_seconds"], 0.1);
    assert_eq!(details["limits"]["host_calls"], 100);
}
