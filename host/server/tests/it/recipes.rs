//! Runs of recipes by HTTP: what is refused, what is reported, what the table says, and what a restart leaves of them.

use std::path::Path;

use serde_json::{Value, json};

use crate::guests;
use crate::host::{Host, MODEL, Setup, eventually};

const RUNS: &str = "/admin/v1/recipes/runs";

const RECIPE: &str = r#"name = "two"
seed = 5
texts = ["text.txt"]
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
[[stages]]
name = "lora"
[stages.training]
method = "lora"
steps = 4
window_tokens = 32
adapter = { rank = 2 }
"#;

fn host() -> Host {
    let host = Host::start();
    let text = "Four score and seven years ago our fathers brought forth a new nation. ".repeat(40);
    std::fs::write(host.path("text.txt"), text).unwrap();
    for name in ["wanda", "perplexity"] {
        host.post_bytes("/admin/v1/components", "application/wasm", &guests::bytes(name)).success();
    }
    host
}

fn request(host: &Host, toml: &str) -> Value {
    let folder = host.path("text.txt");
    json!({"model": MODEL, "toml": toml, "directory": folder.parent().unwrap()})
}

fn submit(host: &Host, toml: &str) -> u64 {
    let started = host.post(RUNS, &request(host, toml));
    assert_eq!(started.status, 202, "{}", started.text);
    started.json()["id"].as_u64().unwrap()
}

/// The data of all events of one name.
fn named(events: &str, name: &str) -> Vec<Value> {
    let head = format!("event: {name}\ndata: ");
    events.split("\n\n").filter_map(|frame| serde_json::from_str(frame.strip_prefix(&head)?).ok()).collect()
}

#[test]
fn a_run_reports_its_stages_and_its_result_is_served() {
    let host = host();
    let id = submit(&host, RECIPE);
    let events = host.get(&format!("{RUNS}/{id}/events")).text;
    let last = named(&events, "job").pop().unwrap();
    assert_eq!(last["state"], "succeeded", "{last}");
    let progress = named(&events, "progress");
    let stages: Vec<_> = progress.iter().filter(|event| event["stage"].is_object()).collect();
    let cut = stages.iter().find(|event| event["stage"]["cut"] == 2).unwrap();
    assert_eq!((&cut["stage"]["number"], &cut["stage"]["cuts"]), (&json!(1), &json!(2)));
    let trained = stages.iter().rfind(|event| event["phase"] == "train").unwrap();
    assert_eq!(
        (&trained["done"], &trained["total"], &trained["stage"]["name"]),
        (&json!(4), &json!(4), &json!("lora"))
    );
    for figure in ["loss", "tokens_per_second"] {
        assert!(trained["stage"][figure].as_f64().is_some_and(|value| value > 0.0), "{trained}");
    }
    assert_eq!(trained["stage"]["seconds_left"], 0.0);

    let table = host.get(RUNS).success();
    let run = &table["runs"][0];
    assert_eq!((&run["id"], &run["recipe"], &run["state"]), (&json!(id), &json!("two"), &json!("succeeded")));
    assert_eq!(run["texts"].as_array().unwrap().len(), 2);
    let slots: Vec<_> = run["components"].as_array().unwrap().iter().map(|pinned| &pinned["slot"]).collect();
    assert_eq!(slots, ["scoring/wanda", "metric/perplexity"]);
    let result = &run["result"];
    assert_eq!(result["status"], "finished");
    let parameters = |part: &str| result[part]["parameters"].as_u64().unwrap();
    assert!(parameters("after") < parameters("before"));
    for part in ["before", "after"] {
        assert_eq!(result[part]["measurements"][0]["name"], "perplexity.stride", "{result}");
    }
    for hash in [
        &run["recipe_sha256"],
        &run["texts"][0]["sha256"],
        &result["unpruned_sha256"],
        &result["model"]["sha256"],
    ] {
        assert_eq!(hash.as_str().map(str::len), Some(64), "{run}");
    }
    assert_eq!(host.get(&format!("{RUNS}/{id}")).success()["toml"], RECIPE);
    let body = json!({"model": MODEL, "variant": "two", "path": result["model"]["path"]});
    host.post("/admin/v1/models", &body).success();
    host.complete("tiny@two").success();
    assert_eq!(host.series(r#"espalier_jobs{kind="recipe",state="succeeded"}"#), 1.0);
    for stage in ["channels", "lora"] {
        let count = format!(r#"espalier_recipe_stage_seconds_count{{recipe="two",stage="{stage}"}}"#);
        assert_eq!(host.series(&count), 1.0);
    }
}

#[test]
fn a_report_is_shown_as_a_page_that_can_do_nothing() {
    let host = host();
    let id = submit(&host, RECIPE);
    assert_eq!(host.job(id)["state"], "succeeded");
    let reports = host.get(RUNS).success()["runs"][0]["reports"].clone();
    let paths: Vec<_> = reports.as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
    assert_eq!(paths.len(), 3);
    for (path, media_type, part) in [
        (paths[0], "text/html; charset=utf-8", "<h2>Stage by stage</h2>"),
        (paths[1], "text/markdown; charset=utf-8", "## Stage 2: lora"),
        (paths[2], "application/json", "\"recipe\": \"two\""),
    ] {
        let report = host.get(path);
        assert_eq!((report.status, report.header("content-type")), (200, media_type));
        assert!(report.text.contains(part), "{}", report.text);
        let policy = report.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("sandbox"), "{policy}");
    }
    for format in ["state.json", "..%2fstate.json", "%2e%2e%2f%2e%2e%2fespalier.db", "report.html"] {
        host.get(&format!("{RUNS}/{id}/report/{format}")).is_refused(404, Some("format"), "not_found");
    }
    host.get(&format!("{RUNS}/99/report/html")).is_refused(404, Some("id"), "not_found");
}

#[test]
fn a_recipe_that_cannot_be_run_is_refused_with_its_line() {
    let host = host();
    let refused = |toml: String, param: &str, line: Option<u64>| {
        let answer = host.post(RUNS, &request(&host, &toml));
        answer.is_refused(400, Some(param), "invalid_value");
        assert_eq!(answer.json()["error"]["line"].as_u64(), line, "{}", answer.text);
        answer.message()
    };
    let message = refused(RECIPE.replace("cuts = 2", "cust = 2"), "toml", Some(16));
    assert!(message.starts_with("toml, line 16: unknown field `cust`"), "{message}");
    let message = refused(RECIPE.replace("keep = 0.8", "keep = 1.8"), "stages.0.keep", Some(15));
    assert!(message.contains("line 15") && message.contains("found 1.8"), "{message}");
    refused(RECIPE.replace("steps = 4", "steps = 0"), "stages.1.training.steps", Some(21));
    refused(RECIPE.replace("[\"text.txt\"]", "[\"no.txt\"]"), "texts", Some(3));
    refused(RECIPE.replace("\"wanda\"", "\"no-such-policy\""), "stages.0.policy", None);
    // A path is no name: which files are run is up to the deployments.
    refused(RECIPE.replace("\"wanda\"", "\"/tmp/wanda.wasm\""), "stages.0.policy", None);
    refused(RECIPE.replace("[\"perplexity\"]", "[\"no-such-metric\"]"), "evaluation.metrics", None);
    refused("name = [".to_owned(), "toml", Some(1));
    for (field, value, param, code) in [
        ("recipe", json!("seed"), "toml", "invalid_value"),
        ("load_as", json!("a b"), "load_as", "invalid_value"),
        ("calibration", json!(7), "calibration", "invalid_value"),
        ("calibration", json!("/no/such/file"), "texts", "invalid_value"),
        ("no_such_field", json!(1), "no_such_field", "unsupported_parameter"),
    ] {
        let mut body = request(&host, RECIPE);
        body[field] = value;
        host.post(RUNS, &body).is_refused(400, Some(param), code);
    }
    let mut body = json!({"model": MODEL, "recipe": "sede"});
    host.post(RUNS, &body).is_refused(400, Some("recipe"), "invalid_value");
    body["recipe"] = json!("seed");
    host.post(RUNS, &body).is_refused(400, Some("evaluation.text"), "invalid_value");
    let mut body = request(&host, RECIPE);
    body["variant"] = json!("other");
    host.post(RUNS, &body).is_refused(404, Some("model"), "model_not_found");
    assert_eq!(host.get(RUNS).success()["runs"], json!([]));
}

#[test]
fn a_gate_fails_the_run_and_the_last_good_model_is_in_the_table() {
    let host = host();
    let gate = "adapter = { rank = 2 }\n[[stages.gates]]\nmetric = \"perplexity.stride\"\nat_most = 1.0\n";
    let id = submit(&host, &RECIPE.replace("adapter = { rank = 2 }\n", gate));
    assert_eq!(host.job(id)["state"], "failed");
    let run = host.get(&format!("{RUNS}/{id}")).success();
    assert!(run["error"].as_str().is_some_and(|error| error.contains("after stage 2 (lora)")), "{run}");
    let result = &run["result"];
    assert_eq!((&result["status"], &result["stages"][1]["passed"]), (&json!("stopped"), &json!(false)));
    assert!(
        Path::new(result["model"]["path"].as_str().unwrap()).ends_with("stages/1-channels/cut-2"),
        "{run}"
    );
}

#[test]
fn a_run_is_cancelled_and_what_is_no_run_is_not_found() {
    let host = host();
    let id = submit(&host, &RECIPE.replace("steps = 4", "steps = 1000000"));
    let waiting = submit(&host, RECIPE);
    eventually(|| (host.get(&format!("{RUNS}/{id}")).success()["phase"] == "train").then_some(()));
    let cancelled = host.delete(&format!("{RUNS}/{id}"));
    assert_eq!(cancelled.status, 202, "{}", cancelled.text);
    assert_eq!(host.job(id)["state"], "cancelled");
    let run = host.get(&format!("{RUNS}/{id}")).success();
    assert_eq!(run["result"]["stages"].as_array().map(Vec::len), Some(1), "{run}");
    let done = run["done"].as_u64();
    assert_eq!(host.job(waiting)["state"], "succeeded");
    host.post(&format!("{RUNS}/{waiting}/resume"), &json!({})).is_refused(409, Some("id"), "conflict");
    // It goes on in its training.
    let resumed = host.post(&format!("{RUNS}/{id}/resume"), &json!({}));
    assert_eq!((resumed.status, &resumed.json()["state"]), (202, &json!("queued")), "{}", resumed.text);
    let further = eventually(|| {
        let run = host.get(&format!("{RUNS}/{id}")).success();
        (run["state"] == "running" && run["phase"] == "train" && run["done"].as_u64() > done).then_some(run)
    });
    assert_eq!(further["stage"]["number"], 2, "{further}");
    host.delete(&format!("{RUNS}/{id}")).success();
    assert_eq!(host.job(id)["state"], "cancelled");
    host.delete(&format!("{RUNS}/{waiting}")).is_refused(409, Some("id"), "conflict");
    let evaluation =
        json!({"kind": "evaluate", "model": MODEL, "data": host.path("text.txt"), "metrics": ["perplexity"]});
    let other = host.post("/admin/v1/jobs", &evaluation).success()["id"].as_u64().unwrap();
    for path in [format!("{RUNS}/{other}"), format!("{RUNS}/{other}/events"), format!("{RUNS}/99")] {
        host.get(&path).is_refused(404, Some("id"), "not_found");
    }
    host.delete(&format!("{RUNS}/{other}")).is_refused(404, Some("id"), "not_found");
}

#[test]
fn a_run_goes_on_after_a_restart_with_the_components_that_it_began_with() {
    let mut host = host();
    let id = submit(&host, &RECIPE.replace("steps = 4", "steps = 60\ncheckpoint_steps = 5"));
    eventually(|| (host.get(&format!("{RUNS}/{id}")).success()["phase"] == "train").then_some(()));
    let pinned = host.get(&format!("{RUNS}/{id}")).success()["components"].clone();
    host.application.begin_drain();
    host.join();
    let host = host.restart(Setup::default());
    let job = host.job(id);
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!(host.get(&format!("{RUNS}/{id}")).success()["components"], pinned);
}

#[test]
fn texts_that_change_while_a_run_waits_are_noticed() {
    let host = host();
    let next = submit(&host, &RECIPE.replace("steps = 4", "steps = 1000000"));
    eventually(|| (host.get(&format!("{RUNS}/{next}")).success()["phase"] == "train").then_some(()));
    let waiting = submit(&host, RECIPE);
    std::fs::write(host.path("text.txt"), "Something else. ".repeat(200)).unwrap();
    host.delete(&format!("{RUNS}/{next}"));
    let failed = host.job(waiting);
    assert_eq!(failed["state"], "failed", "{failed}");
    assert!(
        failed["error"]
            .as_str()
            .is_some_and(|error| error.contains("have changed since its run was asked for")),
        "{failed}"
    );
}
