//! Recipes in a running host that is killed again and again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::running_host::RunningHost;
use crate::{http, program, synthetic};

const RECIPE: &str = r#"name = "three"
seed = 5
[calibration]
windows = 4
window_tokens = 64
[evaluation]
text = "text.txt"
max_tokens = 400
metrics = ["perplexity"]
[[stages]]
name = "channels"
policy = "wanda"
units = ["ffn-channel"]
keep = 0.8
cuts = 2
refit = { ridge = 0.01 }
[[stages]]
name = "lora"
[stages.training]
method = "lora"
steps = 12
window_tokens = 64
checkpoint_steps = 2
adapter = { rank = 2 }
[[stages]]
name = "layers"
policy = "block-influence"
units = ["layer"]
counts = { layer = 1 }
"#;

struct Room {
    folder: tempfile::TempDir,
    served: [String; 1],
    model: PathBuf,
    recipe: PathBuf,
}

impl Room {
    fn new(change: impl Fn(&str) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = synthetic::model(folder.path(), 1);
        let served = [format!("{}={}", synthetic::NAME, model.display())];
        fs::write(folder.path().join("text.txt"), "Four score and seven years ago. ".repeat(100)).unwrap();
        let recipe = folder.path().join("recipe.toml");
        fs::write(&recipe, change(RECIPE)).unwrap();
        Self { folder, served, model, recipe }
    }

    fn host(&self) -> RunningHost {
        RunningHost::start(self.folder.path(), &self.served)
    }

    fn submit(&self, host: &RunningHost) -> u64 {
        let recipe = self.recipe.to_str().unwrap();
        let answer = host.command(&["recipe", "start", recipe, "--model", synthetic::NAME, "--json"]);
        serde_json::from_str::<Value>(&answer).unwrap()["id"].as_u64().unwrap()
    }

    /// The files of all stages' models of a run.
    fn models(&self, id: u64) -> BTreeMap<PathBuf, Vec<u8>> {
        models(&self.folder.path().join("state/recipes").join(id.to_string()))
    }
}

fn models(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![run.join("stages")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(run).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    // PEFT's settings name the model below the adapter by its path, which is another one in another run.
    found.retain(|path, _| !path.ends_with("adapter_config.json"));
    found
}

fn run_of(host: &RunningHost, id: u64) -> Value {
    http::get(&host.admin_url(&format!("/admin/v1/recipes/runs/{id}"))).success()
}

fn kill_and_resume(moments: u32) {
    let room = Room::new(str::to_owned);
    let mut host = room.host();
    let whole = room.submit(&host);
    let job = host.job(whole);
    assert_eq!(job["state"], "succeeded", "{job}\n{}", host.log());
    let milliseconds = |field: &str| job[field].as_u64().unwrap();
    let time = Duration::from_millis(milliseconds("finished_ms") - milliseconds("started_ms"));
    let expected = room.models(whole);
    assert!(expected.keys().any(|path| path.starts_with("stages/3-layers/cut-1")), "{:?}", expected.keys());
    let hash = run_of(&host, whole)["result"]["model"]["sha256"].clone();
    let mut interrupted = 0;
    for moment in 0..moments {
        let id = room.submit(&host);
        // The golden ratio spreads moments evenly without a pattern; every third run is killed a second time.
        let share = (f64::from(moment + 1) * 0.618_033_988_75).fract();
        for kill in 0..1 + u32::from(moment % 3 == 2) {
            std::thread::sleep(time.mul_f64(share / f64::from(1 + kill)));
            interrupted += u32::from(run_of(&host, id)["finished_ms"].is_null());
            // The process is killed with the value.
            drop(host);
            host = room.host();
        }
        let job = host.job(id);
        assert_eq!(job["state"], "succeeded", "after {share} of {time:?}: {job}\n{}", host.log());
        assert!(room.models(id) == expected, "after {share} of {time:?}: other bytes");
        assert_eq!(run_of(&host, id)["result"]["model"]["sha256"], hash);
    }
    assert!(interrupted > moments / 2, "only {interrupted} of {moments} runs were killed before their end");
    // The command without a host makes the same models.
    let out = room.folder.path().join("alone");
    let [model, recipe, alone] = [&room.model, &room.recipe, &out].map(|path| path.to_str().unwrap());
    let made = ["prune", "--device", "cpu", "--model", model, "--recipe", recipe, "--out", alone];
    let made = program::run(&made);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(models(&out) == expected, "the command makes other bytes than the host");
}

#[test]
fn a_run_in_a_killed_host_ends_with_the_bytes_of_an_uninterrupted_one() {
    kill_and_resume(4);
}

#[test]
#[ignore = "a minute; `cargo xtask test` runs it"]
fn runs_in_twenty_killed_hosts_end_with_the_bytes_of_an_uninterrupted_one() {
    kill_and_resume(20);
}

#[test]
fn runs_are_started_watched_listed_and_loaded_from_the_command_line() {
    let room = Room::new(str::to_owned);
    let mut host = room.host();
    let recipe = room.recipe.to_str().unwrap();
    let said = host.command(&[
        "recipe",
        "start",
        recipe,
        "--model",
        synthetic::NAME,
        "--load-as",
        "small",
        "--watch",
    ]);
    for part in
        ["1/3 channels, cut 2/2: ", "2/3 lora: train ", "tokens/s", "3/3 layers", "serving as  tiny@small"]
    {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    host.complete(&format!("{}@small", synthetic::NAME), 4).success();
    let run = run_of(&host, 1);
    let shown = host.command(&["recipe", "show", "1"]);
    let listed = host.command(&["recipe", "list"]);
    for hash in [&run["recipe_sha256"], &run["texts"][0]["sha256"], &run["result"]["model"]["sha256"]] {
        let hash = hash.as_str().unwrap();
        assert!(shown.contains(hash), "{shown}");
        assert!(listed.contains(&hash[..8]), "{listed}");
    }
    assert!(listed.contains("perplexity.stride") && listed.contains("/report/html"), "{listed}");
    assert_eq!(host.command(&["recipe", "show", "1", "--toml"]), RECIPE);
    let path = run["result"]["model"]["path"].as_str().unwrap();
    host.command(&["model", "load", &format!("{}@again={path}", synthetic::NAME)]);
    host.complete(&format!("{}@again", synthetic::NAME), 4).success();

    fs::write(&room.recipe, RECIPE.replace("steps = 12", "steps = 1000000")).unwrap();
    let id = room.submit(&host).to_string();
    while run_of(&host, 2)["phase"] != "train" {
        std::thread::sleep(Duration::from_millis(20));
    }
    host.command(&["recipe", "cancel", &id]);
    assert_eq!(host.job(2)["state"], "cancelled");
    let admin = host.admin_url("");
    let watched = program::run(&["recipe", "watch", &id, "--admin", &admin]);
    let stderr = String::from_utf8_lossy(&watched.stderr).into_owned();
    assert!(watched.status.code() == Some(1) && stderr.contains("run 2 is cancelled"), "{stderr}");
    let wrong = program::run(&["recipe", "start", "sede", "--model", synthetic::NAME, "--admin", &admin]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("one of seed, memory-first"));
    fs::write(&room.recipe, RECIPE.replace("keep = 0.8", "keep = 8")).unwrap();
    let wrong = program::run(&["recipe", "start", recipe, "--model", synthetic::NAME, "--admin", &admin]);
    let stderr = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(stderr.contains("line 14: stages.0.keep: found 8"), "{stderr}");
    host.is_healthy();
}
