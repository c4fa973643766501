//! The official OpenAI client for Python, against hosts that serve the real model, one that thinks and calls, and one that
//! writes nonsense unless it is kept to something.

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

#[test]
fn texts_kept_to_a_schema_validate() {
    let Some(python) = program::named_by("ESPALIER_TEST_PYTHON") else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = synthetic::model(folder.path(), 1);
    let host = RunningHost::start(folder.path(), &[format!("{}={}", synthetic::NAME, model.display())]);
    speaks(&python, &host, "structured_client.py", synthetic::NAME);
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
