//! The official OpenAI client for Python, against a host that serves the real model.

use std::process::Command;

use crate::program;
use crate::running_host::RunningHost;
use crate::smollm2;

#[test]
fn the_official_python_client_is_served() {
    let (Some(python), Some(model)) = (program::named_by("ESPALIER_TEST_PYTHON"), smollm2::path()) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let host = RunningHost::start(folder.path(), &[format!("{}={}", smollm2::NAME, model.display())]);
    let script = program::root().join("tests/python/openai_client.py");
    let output = Command::new(python).arg(script).arg(host.url("")).arg(smollm2::NAME).output().unwrap();
    assert!(
        output.status.success(),
        "{}{}\nthe host's log:\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        host.log()
    );
}
