//! Very small models with random weights: enough to serve, to prune and to break.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::program;

/// The name that the tests serve the plain one by.
pub(crate) const NAME: &str = "tiny";

/// The longest sequence it takes, in tokens.
pub(crate) const CONTEXT: usize = 512;

/// Makes it in `folder`; the same seed makes the same model.
pub(crate) fn model(folder: &Path, seed: u32) -> PathBuf {
    let fields =
        json!({"num_hidden_layers": 2, "intermediate_size": 256, "max_position_embeddings": CONTEXT});
    of_shape(folder, &format!("tiny-{seed}"), &fields, seed)
}

/// A gpt-oss with every part of the real one, its tokenizer too, and hardly any weights.
pub(crate) fn gpt_oss(folder: &Path) -> PathBuf {
    let fields = json!({
        "model_type": "gpt_oss", "vocab_size": 201_088, "hidden_size": 32, "intermediate_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "num_local_experts": 4, "num_experts_per_tok": 2, "torch_dtype": "bfloat16",
        "quantization_config": {"quant_method": "mxfp4"},
    });
    of_shape(folder, "gpt-oss", &fields, 1)
}

fn of_shape(folder: &Path, name: &str, fields: &Value, seed: u32) -> PathBuf {
    let shape = folder.join(format!("{name}.shape.json"));
    fs::write(&shape, fields.to_string()).unwrap();
    let out = folder.join(name);
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
