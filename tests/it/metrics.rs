//! `/metrics` as Prometheus reads it.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::running_host::RunningHost;
use crate::{http, program, synthetic};

/// What `promtool` says of vLLM's own names, which dashboards look for exactly as they are.
const NAME_COMPLAINTS: [&str; 2] =
    ["metric names should not contain ':'", "non-counter metrics should not have \"_total\" suffix"];

#[test]
fn promtool_accepts_the_metrics_of_a_host_that_has_served() {
    let Some(promtool) = program::named_by("ESPALIER_TEST_PROMTOOL") else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = synthetic::model(folder.path(), 1);
    // A router is asked where a model has more than one variant.
    let names = [synthetic::NAME, "measured", "measured@small", "metric-flood", "metric-flood@small"];
    let models = names.map(|name| format!("{name}={}", model.display()));
    let host = RunningHost::start(folder.path(), &models);
    host.complete(synthetic::NAME, 4).success();
    // A router with metrics of its own, some of them with names that would spoil the page.
    host.command(&["component", "deploy", program::component("fixture-hostile-router").to_str().unwrap()]);
    host.complete("measured", 4).success();
    host.complete("metric-flood", 4).success();
    host.complete("no-such-model", 4).is_refused(404, Some("model"));
    let metrics = http::get(&host.url("/metrics"));
    assert_eq!(metrics.status, 200);
    assert!(metrics.text.contains("espalier_component_observed_bucket"), "{}", metrics.text);
    assert!(metrics.text.contains("vllm:generation_tokens_total"), "{}", metrics.text);

    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(metrics.text.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let is_about_a_name_of_vllm = |line: &&str| {
        line.starts_with("vllm:") && NAME_COMPLAINTS.iter().any(|complaint| line.contains(complaint))
    };
    let complaints: Vec<&str> = said.lines().filter(|line| !is_about_a_name_of_vllm(line)).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}
