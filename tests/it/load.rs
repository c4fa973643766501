//! `espalier bench serve` against a running host.

use serde_json::Value;

use crate::running_host::RunningHost;
use crate::{program, synthetic};

#[test]
fn a_load_is_answered_in_full_and_measured() {
    let folder = tempfile::tempdir().unwrap();
    let model = synthetic::model(folder.path(), 1);
    let host = RunningHost::start(folder.path(), &[format!("{}={}", synthetic::NAME, model.display())]);
    let url = host.url("");
    let load = |model: &str| {
        let options = ["--streams", "3", "--requests", "7", "--prompt-tokens", "9", "--max-tokens", "40"];
        let command = ["bench", "serve", "--url", &url, "--model", model, "--ignore-eos", "--json"];
        program::run(&[&command[..], &options].concat())
    };

    let output = load(synthetic::NAME);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["requests"], &found["completion_tokens"]), (&7.into(), &280.into()), "{found}");
    let first = &found["time_to_first_token"];
    assert_eq!(first["count"], 7, "{found}");
    assert!(found["inter_token_latency"]["count"].as_u64().unwrap() > 7, "{found}");
    assert!(first["p50"].as_f64().unwrap() <= first["p99"].as_f64().unwrap(), "{found}");

    let output = load("no-such-model");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("404") && said.contains("no-such-model"), "{said}");
}
