//! The path that the project exists for, without a restart: deploy a policy, prune with it, serve the result.

use std::fs;

use serde_json::json;

use crate::running_host::RunningHost;
use crate::{http, program, synthetic};

/// The component, and the name that it is deployed under: no built-in component answers to it.
const POLICY: &str = "activation-norm";
const SLOT: &str = "freshly-deployed";
const ROUTER: &str = "least-busy";

#[test]
fn a_policy_is_deployed_prunes_and_its_result_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let model = synthetic::model(folder.path(), 1);
    let mut host = RunningHost::start(folder.path(), &[format!("{}={}", synthetic::NAME, model.display())]);
    let calibration = folder.path().join("calibration.txt");
    fs::write(
        &calibration,
        "Four score and seven years ago our fathers brought forth a new nation. ".repeat(100),
    )
    .unwrap();
    let out = folder.path().join("pruned");
    let request = json!({
        "kind": "prune", "model": synthetic::NAME, "policy": SLOT, "units": ["head", "ffn-channel"], "keep": 0.8,
        "calibration": calibration, "windows": 4, "window_tokens": 128, "out": out,
    });

    let jobs = host.admin_url("/admin/v1/jobs");
    let early = http::post(&jobs, &request);
    assert!((400..500).contains(&early.status), "{}: {}", early.status, early.text);
    early.is_refused(early.status, Some("policy"));

    let slot = format!("scoring/{SLOT}");
    let deployed =
        host.command(&["component", "deploy", program::component(POLICY).to_str().unwrap(), "--slot", &slot]);
    assert!(deployed.contains(POLICY), "{deployed}");
    assert!(host.command(&["component", "list"]).contains(POLICY));
    let id = http::post(&jobs, &request).success()["id"].as_u64().unwrap();
    let events = http::get(&host.admin_url(&format!("/admin/v1/jobs/{id}/events")));
    let job = host.job(id);
    assert_eq!(job["state"], "succeeded", "{job}\n{}", host.log());
    assert_eq!(events.status, 200);
    assert!(
        events.text.lines().any(|line| line.starts_with("data:") && line.contains("succeeded")),
        "{}",
        events.text
    );
    assert!(job["done"].as_u64() >= job["total"].as_u64(), "{job}");

    let before = parameters(&model);
    let after = parameters(&out);
    assert!(after < before && after * 10 >= before * 7, "{before} parameters became {after}");

    host.command(&["model", "load", &format!("{}@80={}", synthetic::NAME, out.display())]);
    assert!(host.command(&["model", "list"]).contains("80"));
    for variant in ["original", "80"] {
        let answer = host.complete(&format!("{}@{variant}", synthetic::NAME), 4).success();
        assert_eq!(answer["espalier"]["variant"], variant, "{answer}");
        assert!(answer["espalier"]["generation"].is_u64(), "{answer}");
    }

    host.command(&["component", "deploy", program::component(ROUTER).to_str().unwrap()]);
    let answer = host.complete(synthetic::NAME, 4).success();
    assert!(matches!(answer["espalier"]["variant"].as_str(), Some("original" | "80")), "{answer}");

    host.command(&["model", "unload", &format!("{}@80", synthetic::NAME)]);
    host.complete(&format!("{}@80", synthetic::NAME), 4).is_refused(404, Some("model"));
    host.complete(synthetic::NAME, 4).success();
    host.is_healthy();
}

/// All parameters of a checkpoint, as `espalier inspect --json` counts them.
fn parameters(model: &std::path::Path) -> u64 {
    let output = program::run(&["inspect", "--json", "--model", model.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let facts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    facts["parameters"]["total"].as_u64().unwrap_or_else(|| panic!("{facts}"))
}
