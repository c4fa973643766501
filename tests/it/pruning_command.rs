//! `espalier prune` on gpt-oss, with the policy that needs no probes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::program;

/// A gpt-oss with MXFP4 experts in `folder`, without a tokenizer: whoever would tokenise text fails.
fn gpt_oss(folder: &Path, fields: &Value) -> PathBuf {
    let shape = folder.join("shape.json");
    let mut config = json!({
        "model_type": "gpt_oss", "torch_dtype": "bfloat16", "quantization_config": {"quant_method": "mxfp4"},
    });
    config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    fs::write(&shape, config.to_string()).unwrap();
    let out = folder.join("gpt-oss");
    let made = program::run(&["synth", "--shape", shape.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for file in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"] {
        fs::remove_file(out.join(file)).unwrap();
    }
    out
}

fn prune(model: &Path, out: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(program::espalier());
    let policy = program::component("random");
    command
        .arg("prune")
        .arg("--model")
        .arg(model)
        .arg("--policy")
        .arg(policy)
        .arg("--out")
        .arg(out)
        .args(options);
    command
}

fn inspect(model: &Path) -> Value {
    let output = program::run(&["inspect", "--model", model.to_str().unwrap(), "--json"]);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_policy_without_probes_cuts_what_cannot_be_run_or_tokenised() {
    let folder = tempfile::tempdir().unwrap();
    let model = gpt_oss(folder.path(), &json!({}));
    let cut = |name: &str, options: &[&str]| {
        let out = folder.path().join(name);
        let output = prune(&model, &out, options).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (out, String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (out, said) = cut("counted", &["--keep-count", "expert=6,head=4,expert-channel=96,layer=2"]);
    assert!(said.contains("experts                             8 ->                6"), "{said}");
    let layers = inspect(&out)["spec"]["layers"].as_array().unwrap().clone();
    assert_eq!(layers.len(), 2);
    let layer = &layers[0];
    assert_eq!(
        (&layer["heads"], &layer["ffn_size"], &layer["experts"]["count"]),
        (&json!(4), &json!(96), &json!(6))
    );

    let (first, _) = cut("first", &["--units", "expert,layer", "--keep", "0.6", "--seed", "7"]);
    let (second, _) = cut("second", &["--units", "expert,layer", "--keep", "0.6", "--seed", "7"]);
    let (third, _) = cut("third", &["--units", "expert,layer", "--keep", "0.6", "--seed", "8"]);
    let plan = |out: &Path| {
        let provenance: Value =
            serde_json::from_slice(&fs::read(out.join("espalier.json")).unwrap()).unwrap();
        provenance["plan"].clone()
    };
    assert_eq!(plan(&first), plan(&second));
    assert_ne!(plan(&first)["layers"], plan(&third)["layers"], "the seed is the policy's");
    assert_eq!(plan(&first)["calibration"], Value::Null);

    let (out, said) = cut("requantised", &["--keep-count", "expert-channel=64", "--requantize"]);
    assert!(said.contains("4 tensors, relative RMS error 0.0"), "{said}");
    assert!(out.join("model.safetensors").is_file());
    let (out, _) = cut("uneven", &["--keep-count", "expert=8:7:6:5", "--layout", "espalier"]);
    assert_eq!(inspect(&out)["spec"]["layers"][3]["experts"]["count"], 5);
}

#[test]
fn refusals_name_the_loader_and_the_rule() {
    let folder = tempfile::tempdir().unwrap();
    let model = gpt_oss(folder.path(), &json!({}));
    let out = folder.path().join("out");
    for (options, expected) in [
        (&["--keep-count", "expert=8:7:6:5"][..], "HF transformers, vLLM and llama.cpp have one count"),
        (&["--keep-count", "layer=3"], "vLLM and llama.cpp let every other layer slide"),
        (&["--keep-count", "expert=3"], "num_experts_per_tok"),
        (&["--keep-count", "expert-channel=100"], "a multiple of 32"),
        (
            &["--units", "ffn-channel", "--keep", "0.5"],
            "can lose: layer, head, kv-group, expert, expert-channel",
        ),
        (&["--units", "expert"], "--keep"),
        (&["--units", "expert", "--keep", "0.01"], "can keep between"),
    ] {
        let output = prune(&model, &out, options).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{options:?}: {said}");
        assert!(!out.exists());
    }
    // A policy that has to see the model at work says which units it scores.
    let policy = program::component("activation-norm");
    let arguments = ["--units", "expert", "--keep", "0.8"];
    let output = Command::new(program::espalier())
        .args(["prune", "--model", model.to_str().unwrap(), "--out", out.to_str().unwrap(), "--policy"])
        .arg(policy)
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("does not score the unit \"expert\", it scores head, kv-group, ffn-channel"),
        "{said}"
    );
}

#[test]
fn a_killed_surgery_leaves_nothing_that_looks_finished() {
    let folder = tempfile::tempdir().unwrap();
    // 150 MB, which takes a moment to write.
    let model =
        gpt_oss(folder.path(), &json!({"hidden_size": 512, "num_hidden_layers": 12, "vocab_size": 8192}));
    let work = folder.path().join("work");
    fs::create_dir(&work).unwrap();
    let out = work.join("pruned");
    let options = ["--keep-count", "expert=7"];
    let mut killed = 0;
    for round in 0..6 {
        let mut child = prune(&model, &out, &options).stdout(std::process::Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while written(&work) < 1 << 20 && Instant::now() < deadline && child.try_wait().unwrap().is_none() {
            sleep(Duration::from_millis(1));
        }
        sleep(Duration::from_millis(7 * round));
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            fs::remove_dir_all(&out).unwrap();
            continue;
        }
        if !out.exists() {
            killed += 1;
        } else {
            // The last step had been taken: then the model is whole.
            assert_eq!(inspect(&out)["spec"]["layers"][0]["experts"]["count"], 7);
            fs::remove_dir_all(&out).unwrap();
        }
        for entry in fs::read_dir(&work).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(name.starts_with(".espalier-surgery-"), "{name} looks like a result");
            assert!(!path.join("config.json").exists());
            fs::remove_dir_all(path).unwrap();
        }
    }
    assert!(killed > 0, "no surgery was interrupted");
    let output = prune(&model, &out, &options).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(inspect(&out)["spec"]["layers"][11]["experts"]["count"], 7);
}

/// Bytes of all files below a folder.
fn written(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let facts = entry.metadata().ok()?;
        Some(if facts.is_dir() { written(&entry.path()) } else { facts.len() })
    });
    sizes.sum()
}
