//! Runs `espalier` and keeps what it said.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use tempfile::TempDir;

/// The result of one run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the program with `arguments`.
pub(crate) fn espalier<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Run {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_espalier"))
        .args(arguments)
        .env("RUST_LOG", "error")
        .output()
        .unwrap();
    Run {
        status: status.code().unwrap(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| {
    let directory = TempDir::new().unwrap();
    let shape = directory.path().join("shape.json");
    std::fs::write(
        &shape,
        r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 300,
            "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "tie_word_embeddings": true}"#,
    )
    .unwrap();
    let out = directory.path().join("tiny");
    let run = espalier(["synth", "--shape", shape.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert_eq!(run.status, 0, "{run:?}");
    directory
});

/// A small model made by `espalier synth`.
pub(crate) fn tiny() -> PathBuf {
    DIRECTORY.path().join("tiny")
}

/// A path for a file of this test run.
pub(crate) fn scratch(name: &str) -> PathBuf {
    DIRECTORY.path().join(name)
}

/// The path as an argument.
pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
