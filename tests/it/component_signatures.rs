//! Keys, signatures and a host that takes signed components only, from the command line.

use std::fs;

use crate::running_host::RunningHost;
use crate::{program, synthetic};

#[track_caller]
fn run(arguments: &[&str]) -> (bool, String) {
    let output = program::run(arguments);
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn a_component_is_signed_and_deployed_where_others_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (key, keys, router) = (path("ada.key"), path("ada.pub"), path("router.wasm"));
    let keygen = ["component", "keygen", "ada", "--out", folder.path().to_str().unwrap()];
    assert!(run(&keygen).0);
    let (again, said) = run(&keygen);
    assert!(!again && said.contains("ada.key"), "a key is not overwritten: {said}");
    let (badly_named, said) = run(&["component", "keygen", "../ada"]);
    assert!(!badly_named && said.contains("lower-case letters"), "{said}");

    fs::copy(program::component("least-busy"), &router).unwrap();
    let model = [format!("{}={}", synthetic::NAME, synthetic::model(folder.path(), 1).display())];
    let host = RunningHost::start_with(folder.path(), &model, &["--component-keys", &keys]);
    let refused = program::run(&["component", "deploy", &router, "--admin", &host.admin_url("")]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("router.wasm is not signed"), "{said}");

    assert!(run(&["component", "sign", &router, "--key", &key]).0);
    assert!(host.command(&["component", "deploy", &router]).starts_with("deployed least-busy@0.1.0"));
    let details = host.command(&["component", "inspect", "least-busy"]);
    let public = fs::read_to_string(&keys).unwrap().trim().replace("ada ", "ada, ");
    for line in
        [format!("signed by  {public}"), "grants     none".into(), "limit      memory_bytes 67108864".into()]
    {
        assert!(details.contains(&line), "{line}:\n{details}");
    }

    let (served, said) = run(&["serve", "--component-keys", &key]);
    assert!(!served && said.contains("ada.key, line 1: found"), "{said}");
    assert!(!said.contains(fs::read_to_string(&key).unwrap().trim()), "a private key is not printed: {said}");
}
