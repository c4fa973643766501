//! A very small model with random weights: enough to serve, to prune and to break.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::program;

/// The name that the tests serve it by.
pub(crate) const NAME: &str = "tiny";

/// The longest sequence it takes, in tokens.
pub(crate) const CONTEXT: usize = 512;

/// Makes it in `folder`; the same seed makes the same model.
pub(crate) fn model(folder: &Path, seed: u32) -> PathBuf {
    let shape = folder.join("shape.json");
    let fields =
        json!({"num_hidden_layers": 2, "intermediate_size": 256, "max_position_embeddings": CONTEXT});
    fs::write(&shape, fields.to_string()).unwrap();
    let out = folder.join(format!("tiny-{seed}"));
    let made = program::run(&[
        "synth",
        "--shape",
        shape.to_str().unwrap(),
        "--seed",
        &seed.to_string(),
        "--out",
        out.to_str().unwrap(),
    ]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    out
}
