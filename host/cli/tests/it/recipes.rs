//! `prune --recipe`: stages that survive the death of the process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::{Run, espalier, scratch, text, tiny};

const RECIPE: &str = r#"name = "three"
about = "A test."
seed = 5
[calibration]
windows = 4
window_tokens = 32
[evaluation]
text = "text.txt"
max_tokens = 200
metrics = ["perplexity"]
[[stages]]
name = "channels"
policy = "wanda"
units = ["ffn-channel"]
keep = 0.8
cuts = 2
refit = { ridge = 0.01 }
[[stages.gates]]
metric = "METRIC"
at_most = 100.0
relative = true
[[stages]]
name = "lora"
[stages.training]
method = "lora"
steps = 6
window_tokens = 32
checkpoint_steps = 2
adapter = { rank = 2 }
[[stages]]
name = "layers"
policy = "block-influence"
units = ["layer"]
counts = { layer = 1 }
"#;

/// A folder with the recipe and its text.
fn recipe(name: &str, change: impl Fn(String) -> String) -> PathBuf {
    let folder = scratch(name);
    std::fs::create_dir_all(&folder).unwrap();
    let sentence =
        "We owe it to those who come after us that what we have received is given on undiminished. ";
    std::fs::write(folder.join("text.txt"), sentence.repeat(40)).unwrap();
    let path = folder.join("recipe.toml");
    std::fs::write(&path, change(RECIPE.replace("METRIC", "perplexity.stride"))).unwrap();
    path
}

fn arguments(recipe: &Path, out: &Path, resume: bool) -> Vec<String> {
    let (model, recipe, out) = (text(&tiny()), text(recipe), text(out));
    let fixed = ["prune", "--device", "cpu", "--model", &model, "--recipe", &recipe, "--out", &out];
    fixed.into_iter().chain(resume.then_some("--resume")).map(str::to_owned).collect()
}

fn run(recipe: &Path, out: &Path, resume: bool) -> Run {
    espalier(arguments(recipe, out, resume))
}

/// The files of all stages' models.
fn models(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![out.join("stages")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(out).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    // PEFT's settings name the model below the adapter by its path, which is another one in another run.
    found.retain(|path, _| !path.ends_with("adapter_config.json"));
    found
}

fn kill_and_resume(name: &str, moments: u32) {
    let recipe = recipe(name, |text| text);
    let whole = scratch(&format!("{name}-whole"));
    let begun = Instant::now();
    let done = run(&recipe, &whole, false);
    let mut time = begun.elapsed();
    assert_eq!(done.status, 0, "{done:?}");
    let expected = models(&whole);
    assert!(expected.keys().any(|path| path.starts_with("stages/3-layers/cut-1")), "{:?}", expected.keys());
    let mut interrupted = 0_u32;
    for moment in 0..moments {
        let out = scratch(&format!("{name}-{moment}"));
        let mut child = Command::new(env!("CARGO_BIN_EXE_espalier"))
            .args(arguments(&recipe, &out, false))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The golden ratio spreads moments evenly without a pattern.
        let share = (f64::from(moment + 1) * 0.618_033_988_75).fract();
        let begun = Instant::now();
        let mut ended = false;
        while !ended && begun.elapsed() < time.mul_f64(share) {
            std::thread::sleep(Duration::from_millis(1));
            ended = child.try_wait().unwrap().is_some();
        }
        if ended {
            // The machine has become faster since the run that was measured.
            time = begun.elapsed();
        } else {
            interrupted += 1;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let done = run(&recipe, &out, true);
        assert_eq!(done.status, 0, "after {share} of {time:?}: {done:?}");
        assert!(models(&out) == expected, "after {share} of {time:?}: other bytes");
        assert!(out.join("model/config.json").is_file() && out.join("report.html").is_file());
        std::fs::remove_dir_all(&out).unwrap();
    }
    assert!(interrupted > moments / 2, "only {interrupted} of {moments} runs were killed before their end");
}

#[test]
fn a_killed_run_ends_with_the_bytes_of_an_uninterrupted_one() {
    kill_and_resume("killed", 4);
}

#[test]
#[ignore = "a minute; `cargo xtask test` runs it"]
fn twenty_killed_runs_end_with_the_bytes_of_an_uninterrupted_one() {
    kill_and_resume("killed-often", 20);
}

#[test]
fn a_gate_stops_the_run_and_the_last_good_model_stays() {
    // The second stage's gate cannot hold.
    let gate = "adapter = { rank = 2 }\n[[stages.gates]]\nmetric = \"perplexity.stride\"\nat_most = 1.0\n";
    let recipe = recipe("gated", |text| text.replace("adapter = { rank = 2 }\n", gate));
    let out = scratch("gated-out");
    let done = run(&recipe, &out, false);
    assert_eq!(done.status, 1, "{done:?}");
    assert!(done.stderr.contains("a gate stopped the run after stage 2"), "{done:?}");
    assert_eq!(std::fs::read_link(out.join("model")).unwrap(), Path::new("stages/1-channels/cut-2"));
    assert!(!out.join("stages/3-layers").exists());
    let markdown = std::fs::read_to_string(out.join("report.md")).unwrap();
    assert!(markdown.contains("failed") && markdown.contains("stopped by a gate"), "{markdown}");
    // The same recipe on a text that has changed since is another run.
    std::fs::write(recipe.with_file_name("text.txt"), "Something else. ".repeat(200)).unwrap();
    let done = run(&recipe, &out, true);
    assert_eq!(done.status, 1, "{done:?}");
    assert!(done.stderr.contains("the recipe and the texts it names (SHA-256)"), "{done:?}");
}

#[test]
fn the_last_stage_is_stored_in_another_format_beside_the_unpruned_model() {
    let stored = "[[stages]]\nname = \"stored\"\nquantize = \"q8_0\"\n";
    let recipe = recipe("stored", |text| {
        let (head, _) = text.split_once("[[stages]]\nname = \"lora\"").unwrap();
        format!("{head}{stored}")
    });
    let out = scratch("stored-out");
    let done = run(&recipe, &out, false);
    assert_eq!(done.status, 0, "{done:?}");
    let model = out.join("model");
    assert_eq!(std::fs::read_link(&model).unwrap(), Path::new("stages/2-stored/model-q8_0.gguf"));
    let report = std::fs::read_to_string(out.join("report.md")).unwrap();
    assert!(report.contains("| unpruned, q8\\_0 |") || report.contains("| unpruned, q8_0 |"), "{report}");
    assert!(espalier(["inspect", "--model", &text(&model)]).stdout.contains("GGUF"));
    // What a killed process left of a file goes, and what it finished stays.
    let expected = std::fs::read(&model).unwrap();
    let state = out.join("state.json");
    let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    record["stages"].as_array_mut().unwrap().pop();
    record["status"] = "running".into();
    std::fs::write(&state, record.to_string()).unwrap();
    let partial = out.join("stages/2-stored/.model-q8_0.gguf.partial-1");
    std::fs::rename(out.join("stages/2-stored/model-q8_0.gguf"), &partial).unwrap();
    let done = run(&recipe, &out, true);
    assert_eq!(done.status, 0, "{done:?}");
    assert!(!partial.exists());
    assert!(std::fs::read(&model).unwrap() == expected, "other bytes");
}

#[test]
fn mistakes_are_named_and_what_is_finished_stays() {
    let out = scratch("wrong-out");
    let typo = recipe("typo", |text| text.replace("cuts = 2", "cust = 2"));
    let done = run(&typo, &out, false);
    assert!(done.stderr.contains("recipe.toml, line 16: unknown field `cust`"), "{done:?}");
    let missing = recipe("missing", |text| text.replace("\"text.txt\"", "\"no.txt\""));
    let done = run(&missing, &out, false);
    assert!(done.stderr.contains("line 8: evaluation.text: found"), "{done:?}");
    assert!(!out.exists());
    let impossible = recipe("impossible", |text| text.replace("keep = 0.8", "keep = 0.01"));
    let done = run(&impossible, &out, false);
    assert!(done.stderr.contains("stage 1 (channels): "), "{done:?}");
    let other = recipe("other", |text| text.replace("seed = 5", "seed = 6"));
    let done = run(&other, &out, true);
    assert!(done.stderr.contains("the recipe and the texts it names (SHA-256) of the run in"), "{done:?}");
    let done = run(&impossible, &out, false);
    assert!(done.stderr.contains("expected a new or empty one, or --resume"), "{done:?}");
    // A learning rate that no weight survives.
    let infinite = "adapter = { rank = 2 }\noptimizer = { learning_rate = 1e30, clip_norm = 1e30 }\n";
    let recipe = recipe("infinite", |text| text.replace("adapter = { rank = 2 }\n", infinite));
    let out = scratch("infinite-out");
    let done = run(&recipe, &out, false);
    assert!(done.stderr.contains("stage 2 (lora): ") && done.stderr.contains("NaN"), "{done:?}");
    assert_eq!(std::fs::read_link(out.join("model")).unwrap(), Path::new("stages/1-channels/cut-2"));
}
