//! Components that are pushed to a registry, pulled, and deployed from there.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::registry::{Behaviour, CREDENTIALS, TestRegistry};
use crate::running_host::RunningHost;
use crate::{program, synthetic};

/// Runs the program with Docker's configuration in `folder`; says how it ended and what it printed.
fn run(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let output =
        Command::new(program::espalier()).args(arguments).env("DOCKER_CONFIG", folder).output().unwrap();
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[track_caller]
fn succeeds(folder: &Path, arguments: &[&str]) -> String {
    let (succeeded, said) = run(folder, arguments);
    assert!(succeeded, "{arguments:?}: {said}");
    said
}

#[track_caller]
fn fails(folder: &Path, arguments: &[&str], expected: &str) {
    let (succeeded, said) = run(folder, arguments);
    assert!(!succeeded && said.contains(expected), "{arguments:?}: {said}");
    assert!(!said.contains(CREDENTIALS), "{said}");
}

#[test]
fn a_component_goes_to_a_registry_and_from_there_into_a_host() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let registry = TestRegistry::start(Behaviour::default());
    let reference = format!("{}/team/router:1.0", registry.address);
    let (router, pulled) = (path("router.wasm"), path("pulled.wasm"));
    fs::copy(program::component("least-busy"), &router).unwrap();
    succeeds(folder.path(), &["component", "keygen", "ada", "--out", &path("")]);
    succeeds(folder.path(), &["component", "sign", &router, "--key", &path("ada.key")]);

    let said = succeeds(folder.path(), &["component", "push", &router, &reference]);
    assert!(said.contains("is pushed, signed: its manifest is sha256:"), "{said}");
    let manifest = registry.stored().manifests["1.0"].clone();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    let config = registry.stored().blobs[manifest["config"]["digest"].as_str().unwrap()].clone();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["component"]["exports"][0], "espalier:policy/routing@1.0.0-rc.1");
    // What is there already is not sent again.
    registry.stored().requests.clear();
    succeeds(folder.path(), &["component", "push", &router, &reference]);
    assert!(!registry.stored().requests.iter().any(|request| request.starts_with("POST")));

    succeeds(folder.path(), &["component", "pull", &reference, "--out", &pulled]);
    assert_eq!(fs::read(&pulled).unwrap(), fs::read(&router).unwrap());
    assert_eq!(fs::read(pulled.clone() + ".sig").unwrap(), fs::read(router.clone() + ".sig").unwrap());
    fails(folder.path(), &["component", "pull", &reference, "--out", &pulled], "is there already");
    let by_digest = said.split("manifest is ").nth(1).unwrap().trim();
    let pinned = format!("{}/team/router@{by_digest}", registry.address);
    let bytes = serde_json::to_vec(&manifest).unwrap();
    registry.stored().manifests.insert(by_digest.to_owned(), bytes);
    succeeds(folder.path(), &["component", "pull", &pinned, "--out", &path("pinned.wasm")]);

    let model = [format!("{}={}", synthetic::NAME, synthetic::model(folder.path(), 1).display())];
    let host = RunningHost::start_with(folder.path(), &model, &["--component-keys", &path("ada.pub")]);
    let from = format!("oci://{reference}");
    let deployed = host.command(&["component", "deploy", "--from", &from]);
    assert!(deployed.starts_with("deployed least-busy@0.1.0"), "{deployed}");
    // And from the host to another tag, with the signature that it was deployed with.
    let copy = format!("{}/team/router:copy", registry.address);
    host.command(&["component", "push", "least-busy@0.1.0", &copy]);
    let stored = registry.stored();
    assert_eq!(stored.manifests["copy"], stored.manifests["1.0"]);
}

#[test]
fn a_registry_that_wants_credentials_gets_those_of_dockers_file() {
    let folder = tempfile::tempdir().unwrap();
    let registry =
        TestRegistry::start(Behaviour { realm: Some("http://{address}/token"), ..Behaviour::default() });
    let reference = format!("{}/team/router:1.0", registry.address);
    let router = program::component("least-busy");
    let push = ["component", "push", router.to_str().unwrap(), &reference];
    fails(folder.path(), &push, "gives no token");
    let config = format!(r#"{{"auths": {{"{}": {{"auth": "{CREDENTIALS}"}}}}}}"#, registry.address);
    fs::write(folder.path().join("config.json"), config).unwrap();
    succeeds(folder.path(), &push);
    let pulled = folder.path().join("pulled.wasm");
    succeeds(folder.path(), &["component", "pull", &reference, "--out", pulled.to_str().unwrap()]);
    assert_eq!(fs::read(pulled).unwrap(), fs::read(&router).unwrap());
    let asked = registry
        .stored()
        .requests
        .iter()
        .any(|request| request.contains("&scope=repository%3Ateam%2Frouter"));
    assert!(asked, "{:?}", registry.stored().requests);
    // Credentials do not leave this machine in the clear because a registry says so.
    let sly =
        TestRegistry::start(Behaviour { realm: Some("http://192.0.2.1/token"), ..Behaviour::default() });
    let reference = format!("{}/team/router:1.0", sly.address);
    fails(folder.path(), &["component", "pull", &reference], "expected a URL that begins with https://");
}

#[test]
fn what_a_registry_sends_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let registry = TestRegistry::start(Behaviour::default());
    let reference = |tag: &str| format!("{}/team/router:{tag}", registry.address);
    let router = program::component("least-busy");
    succeeds(folder.path(), &["component", "push", router.to_str().unwrap(), &reference("1.0")]);
    let manifest: Value = serde_json::from_slice(&registry.stored().manifests["1.0"]).unwrap();
    let layer = manifest["layers"][0].clone();
    let file = folder.path().join("x.wasm");
    let pull = |tag: &str, expected: &str| {
        fails(
            folder.path(),
            &["component", "pull", &reference(tag), "--out", file.to_str().unwrap()],
            expected,
        );
        assert!(!file.exists());
    };
    pull("missing", "MANIFEST_UNKNOWN: not here");
    let mut image = manifest.clone();
    image["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
    let mut large = manifest.clone();
    large["layers"][0]["size"] = (64_u64 << 20).into();
    let mut shrunk = manifest.clone();
    shrunk["layers"][0]["size"] = 5.into();
    for (tag, manifest) in [("image", &image), ("large", &large), ("shrunk", &shrunk)] {
        registry.stored().manifests.insert(tag.into(), manifest.to_string().into_bytes());
    }
    registry.stored().manifests.insert("page".into(), b"<html>".to_vec());
    pull("image", "this is no WebAssembly artifact");
    pull("large", "has 67108864 bytes, more than the limit of 33554432 bytes");
    pull("shrunk", "the manifest says 5");
    pull("page", "found no JSON");
    registry.stored().blobs.insert(layer["digest"].as_str().unwrap().into(), b"other bytes".to_vec());
    pull("1.0", "has the digest sha256:");

    let endless = TestRegistry::start(Behaviour { is_endless: true, ..Behaviour::default() });
    endless.stored().manifests.insert("1".into(), manifest.to_string().into_bytes());
    let reference = format!("{}/team/router:1", endless.address);
    fails(
        folder.path(),
        &["component", "pull", &reference, "--out", file.to_str().unwrap()],
        "more than the limit",
    );
    let sent = endless.stored().sent;
    assert!(sent < 48 << 20, "{sent} bytes were taken");
}
