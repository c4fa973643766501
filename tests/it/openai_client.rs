//! The official OpenAI client for Python, against a host that serves the real model, and one that thinks and calls.

use std::path::Path;
use std::process::Command;

use crate::program;
use crate::running_host::RunningHost;
use crate::{smollm2, synthetic};

#[test]
fn the_official_python_client_is_served() {
    let (Some(python), Some(model)) = (program::named_by("ESPALIER_TEST_PYTHON"), smollm2::path()) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let host = RunningHost::start(folder.path(), &[format!("{}={}", smollm2::NAME, model.display())]);
    speaks(&python, &host, "openai_client.py", smollm2::NAME);
}

#[test]
fn thoughts_and_calls_of_gpt_oss_reach_the_official_python_client() {
    let Some(python) = program::named_by("ESPALIER_TEST_PYTHON") else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = synthetic::gpt_oss(folder.path());
    let host = RunningHost::start(folder.path(), &[format!("oss={}", model.display())]);
    speaks(&python, &host, "reasoning_client.py", "oss");
}

fn speaks(python: &Path, host: &RunningHost, script: &str, model: &str) {
    let script = program::root().join("tests/python").join(script);
    let output = Command::new(python).arg(script).arg(host.url("")).arg(model).output().unwrap();
    assert!(
        output.status.success(),
        "{}{}\nthe host's log:\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        host.log()
    );
}
