//! Components from a watched folder, with settings, as canaries: from the command line to the variant that answers.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::running_host::RunningHost;
use crate::{http, program, synthetic};

const PATIENCE: Duration = Duration::from_secs(30);

fn put(guest: &str, folder: &Path) {
    let partial = folder.join("partial");
    fs::copy(program::component(guest), &partial).unwrap();
    fs::rename(partial, folder.join("router.wasm")).unwrap();
}

#[track_caller]
fn eventually(host: &RunningHost, what: &str, mut happened: impl FnMut() -> bool) {
    let began = Instant::now();
    while !happened() {
        assert!(began.elapsed() < PATIENCE, "{what} did not happen:\n{}", host.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn answering(host: &RunningHost) -> String {
    host.complete(synthetic::NAME, 2).success()["espalier"]["variant"].as_str().unwrap().to_owned()
}

#[test]
fn a_folder_is_watched_and_what_is_broken_in_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let watched = folder.path().join("components");
    fs::create_dir(&watched).unwrap();
    let model = synthetic::model(folder.path(), 1);
    let models = [format!("{}={}", synthetic::NAME, model.display())];
    let arguments = ["--watch-components", watched.to_str().unwrap()];
    let mut host = RunningHost::start_with(folder.path(), &models, &arguments);
    let active = |host: &RunningHost, guest: &str| {
        let listed = host.command(&["component", "list"]);
        listed.lines().any(|line| line.starts_with("router") && line.contains(guest))
    };
    put("least-busy", &watched);
    eventually(&host, "the activation", || active(&host, "least-busy@0.1.0"));
    fs::write(watched.join("broken.wasm"), "no component").unwrap();
    eventually(&host, "the refusal", || {
        host.log()
            .lines()
            .any(|line| line.contains("broken.wasm") && line.contains("is not a WebAssembly component"))
    });
    assert!(active(&host, "least-busy@0.1.0"));
    put("fallback-chain", &watched);
    eventually(&host, "the replacement", || active(&host, "fallback-chain@0.1.0"));
    host.is_healthy();
    let missing = folder.path().join("missing");
    let output = program::run(&[
        "serve",
        "--watch-components",
        missing.to_str().unwrap(),
        "--state-dir",
        folder.path().join("other").to_str().unwrap(),
    ]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("--watch-components") && message.contains("missing"), "{message}");
}

#[test]
fn a_canary_is_tried_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let model = synthetic::model(folder.path(), 1);
    let served = |variant| format!("{}@{variant}={}", synthetic::NAME, model.display());
    let host = RunningHost::start(folder.path(), &[served("original"), served("small")]);
    let guest = |name: &str| program::component(name).to_str().unwrap().to_owned();
    let chain = guest("fallback-chain");
    let deployed = host.command(&["component", "deploy", &chain, "--set", "order=original, small"]);
    assert!(deployed.contains("active in router, revision 1, order=original, small"), "{deployed}");
    assert_eq!(answering(&host), "original");
    host.command(&["component", "deploy", &guest("weighted-split"), "--no-activate"]);
    let tried = host.command(&[
        "component",
        "canary",
        "weighted-split",
        "--weight",
        "0.5",
        "--set",
        "weights=small:1",
    ]);
    assert!(
        tried.contains("weighted-split@0.1.0 gets a share of 0.5 of its calls, weights=small:1"),
        "{tried}"
    );
    let answers: Vec<_> = (0..20).map(|_| answering(&host)).collect();
    let small = answers.iter().filter(|variant| *variant == "small").count();
    assert!((8..=12).contains(&small), "{answers:?}");
    let shown = host.command(&["component", "inspect", "weighted-split"]);
    assert!(shown.contains("canary     in router, weight 0.5, weights=small:1"), "{shown}");
    host.command(&["component", "rollback", "router"]);
    assert!((0..10).all(|_| answering(&host) == "original"));
    host.command(&[
        "component",
        "canary",
        "weighted-split@0.1.0",
        "--weight",
        "1",
        "--set",
        "weights=small:1",
    ]);
    let promoted = host.command(&["component", "promote", "router"]);
    assert!(promoted.starts_with("weighted-split@0.1.0 is active in router, revision 5"), "{promoted}");
    assert!((0..10).all(|_| answering(&host) == "small"));
    let wrong = ["component", "canary", "weighted-split", "--weight", "1.5", "--admin", &host.admin_url("")];
    let output = program::run(&wrong);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_endpoint_is_deployed_with_a_grant_and_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    let model = synthetic::model(folder.path(), 1);
    let served = |variant| format!("{}@{variant}={}", synthetic::NAME, model.display());
    let host = RunningHost::start(folder.path(), &[served("original"), served("small")]);
    let compare = program::component("compare").to_str().unwrap().to_owned();
    let deployed = host.command(&["component", "deploy", &compare, "--grant-host", "api.example.com:443"]);
    assert!(
        deployed.contains("active in ext/compare, revision 1, may reach api.example.com:443"),
        "{deployed}"
    );
    let inspected = host.command(&["component", "inspect", "compare"]);
    assert!(inspected.contains("grants     host:api.example.com:443\n"), "{inspected}");
    let asked = json!({"prompt": "four", "variants": ["original", "small"], "max_tokens": 2});
    let answer = http::post(&host.url("/ext/compare"), &asked);
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.text.matches("event: figures\n").count(), 2, "{}", answer.text);
    // Without the grant it is another state of the slot.
    host.command(&["component", "activate", "ext/compare", "compare"]);
    let inspected = host.command(&["component", "inspect", "compare"]);
    assert!(inspected.contains("grants     none: no files, no network, no clock\n"), "{inspected}");
    let wrong =
        program::run(&["component", "activate", "ext/compare", "compare", "--grant-host", "http://a"]);
    let message = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert_eq!(wrong.status.code(), Some(2), "{message}");
    assert!(
        message.contains("\"http://a\" is not a host that can be granted: expected HOST or HOST:PORT"),
        "{message}"
    );
}
