//! A host that is killed and started again on its state directory is what it was: components, variants, jobs.

use std::fs;

use serde_json::json;

use crate::running_host::RunningHost;
use crate::{http, program, synthetic};

const POLICY: &str = "activation-norm";

#[test]
fn a_killed_host_comes_back_with_its_components_variants_and_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let model = synthetic::model(folder.path(), 1);
    let served = [format!("{}={}", synthetic::NAME, model.display())];
    let calibration = folder.path().join("calibration.txt");
    fs::write(&calibration, "Four score and seven years ago. ".repeat(100)).unwrap();

    let host = RunningHost::start(folder.path(), &served);
    host.command(&["component", "deploy", program::component(POLICY).to_str().unwrap()]);
    host.command(&["model", "load", &format!("{}@copy={}", synthetic::NAME, model.display())]);
    let submit = |out: &str| {
        let request = json!({
            "kind": "prune", "model": synthetic::NAME, "variant": "copy", "policy": POLICY,
            "units": ["head", "ffn-channel"], "keep": 0.8, "calibration": calibration,
            "windows": 16, "window_tokens": 256, "out": folder.path().join(out), "load_as": out,
        });
        http::post(&host.admin_url("/admin/v1/jobs"), &request).success()["id"].as_u64().unwrap()
    };
    let jobs = ["first", "second", "third"].map(submit);
    // The process is killed with the value, while the first job runs and the others wait.
    drop(host);

    let mut host = RunningHost::start(folder.path(), &served);
    let answer = host.complete(&format!("{}@copy", synthetic::NAME), 4).success();
    assert_eq!(answer["espalier"]["variant"], "copy");
    assert!(host.command(&["component", "list"]).contains(POLICY));
    let first = host.job(jobs[0]);
    if first["state"] == "failed" {
        assert!(first["error"].as_str().is_some_and(|error| error.contains("host stopped")), "{first}");
    }
    // A job that waited is done by the new host, on a variant that the new host has loaded again.
    let last = host.job(jobs[2]);
    assert_eq!(last["state"], "succeeded", "{last}\n{}", host.log());
    host.complete(&format!("{}@third", synthetic::NAME), 4).success();
    host.is_healthy();
}
