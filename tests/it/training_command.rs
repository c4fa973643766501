//! `espalier train` from the outside: what it writes, what it refuses, and that it survives being killed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{program, synthetic};

const TEXT: &str = "Four score and seven years ago our fathers brought forth on this continent a new nation, conceived in \
    liberty and dedicated to the proposition that all men are created equal.\n";

/// A configuration of a LoRA run of so many steps, with its text and model beside it.
fn configuration(folder: &Path, steps: u32) -> String {
    let model = synthetic::model(folder, 1);
    fs::write(folder.join("text.txt"), TEXT.repeat(60)).unwrap();
    let path = folder.join("train.toml");
    let text = format!(
        "method = \"lora\"\nmodel = {:?}\ntexts = [\"text.txt\"]\nsteps = {steps}\nwindow_tokens = 64\n\
         batch_windows = 4\ncheckpoint_steps = 1\n[adapter]\nrank = 4\n",
        model.display().to_string()
    );
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn train(configuration: &str, out: &Path) -> String {
    let output = program::run(&["train", "--config", configuration, "--out", out.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = configuration(folder.path(), 60);
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    train(&configuration, &whole);
    let mut command = Command::new(program::espalier());
    command.args(["train", "--config", &configuration, "--out"]).arg(&killed);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (state, began) = (killed.join("run.safetensors"), Instant::now());
    while !state.exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "there is no checkpoint");
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(state.exists() && !killed.join("model").exists());
    let said = train(&configuration, &killed);
    assert!(said.contains("resumed after step"), "{said}");
    for file in
        ["model/model.safetensors", "model/config.json", "adapter/adapter_model.safetensors", "training.json"]
    {
        assert!(fs::read(whole.join(file)).unwrap() == fs::read(killed.join(file)).unwrap(), "{file}");
    }
    assert_eq!(fs::read_dir(&killed).unwrap().count(), 3, "the model, the adapter and the figures");
    let inspected = program::run(&["inspect", "--model", killed.join("model").to_str().unwrap()]);
    assert!(inspected.status.success());
}

#[test]
fn a_wrong_configuration_is_refused_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = configuration(folder.path(), 0);
    let output =
        program::run(&["train", "--config", &path, "--out", folder.path().join("out").to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("line 4: steps: found 0, expected at least 1"), "{said}");
}
