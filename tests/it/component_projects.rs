//! Projects of `espalier component new`, built by the tools of their languages: all answer alike, and policies in different
//! languages take each other's place under load.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::running_host::RunningHost;
use crate::{http, program, synthetic};

const LANGUAGES: [&str; 4] = ["rust", "python", "javascript", "c"];

/// How far scores of the same policy in two languages may be apart, relative to those above 1.
const TOLERANCE: f64 = 1e-6;

/// How long jobs may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The component that the project's README says how to build; none, said aloud, where the tool is missing.
fn build(language: &str, world: &str, project: &Path) -> Option<PathBuf> {
    let (mut command, component) = match language {
        "rust" => {
            let mut cargo = Command::new("cargo");
            cargo.args(["build", "--release"]).env("RUSTC", program::named_by("ESPALIER_TEST_GUEST_RUSTC")?);
            for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"]
            {
                cargo.env_remove(variable);
            }
            let module = project.file_name()?.to_str()?.replace('-', "_");
            (cargo, format!("target/wasm32-unknown-unknown/release/{module}.wasm"))
        }
        "python" => {
            let mut python = Command::new(program::named_by("ESPALIER_TEST_COMPONENTIZE_PY")?);
            python.args(["-q", "-d", "wit", "-w", world, "componentize", "--stub-wasi", "app"]);
            python.args(["-o", "out.wasm"]);
            (python, "out.wasm".to_owned())
        }
        "javascript" => {
            let tool = match world {
                "scoring-policy" | "http-endpoint" => "ESPALIER_TEST_COMPONENTIZE_JS",
                _ => "ESPALIER_TEST_COMPONENTIZE_QJS",
            };
            // As after `npm install`; the program lies in `node_modules/.bin`.
            let installed = program::named_by(tool)?.parent()?.parent()?.to_path_buf();
            std::os::unix::fs::symlink(installed, project.join("node_modules")).unwrap();
            let mut npm = Command::new("npm");
            npm.args(["run", "--silent", "build"]);
            (npm, format!("{}.wasm", project.file_name()?.to_str()?))
        }
        _ => {
            let clang = program::named_by("ESPALIER_TEST_CLANG")?;
            let variable = |name: &str, value: &Path| format!("{name}={}", value.display());
            let mut make = Command::new("make");
            make.arg(variable("CC", &clang)).arg(variable("SYSROOT", &clang.parent()?.join("usr")));
            make.arg(variable("ESPALIER", &program::espalier()));
            (make, format!("{}.wasm", project.file_name()?.to_str()?))
        }
    };
    let output = command.current_dir(project).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
    Some(project.join(component))
}

/// What the component's own test prints, run as its README says.
fn answers(project: &Path, component: &Path) -> Vec<Value> {
    let readme = fs::read_to_string(project.join("README.md")).unwrap();
    let line = readme.lines().find_map(|line| line.trim().strip_prefix("espalier component test ")).unwrap();
    let mut test = Command::new(program::espalier());
    // The README's first word is the component where its own build puts it.
    test.args(["component", "test"]).arg(component).args(line.split_whitespace().skip(1));
    let output = test.current_dir(project).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{test:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
    let printed = String::from_utf8(output.stdout).unwrap();
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Makes, builds and tests a project of the world in every language whose tool there is, and holds them to each other.
fn built_and_alike(world: &str, languages: &[&'static str], parent: &Path) -> Vec<(&'static str, PathBuf)> {
    let mut first: Option<Vec<Value>> = None;
    let mut components = Vec::new();
    for &language in languages {
        let name = format!("{language}-part");
        let folder = parent.to_str().unwrap();
        let made = program::run(&[
            "component",
            "new",
            "--lang",
            language,
            "--world",
            world,
            &name,
            "--parent",
            folder,
        ]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let project = parent.join(&name);
        let Some(component) = build(language, world, &project) else { continue };
        let answers = answers(&project, &component);
        assert!(!answers.is_empty(), "{language}");
        let first = first.get_or_insert_with(|| answers.clone());
        assert_eq!(answers.len(), first.len(), "{language}");
        for (answer, known) in answers.iter().zip(first.iter()) {
            is_close(answer, known, language);
        }
        components.push((language, component));
    }
    components
}

#[track_caller]
fn is_close(found: &Value, expected: &Value, language: &str) {
    let (Some(scores), Some(known)) = (found["scores"].as_array(), expected["scores"].as_array()) else {
        assert_eq!(found, expected, "{language}");
        return;
    };
    assert_eq!((&found["unit"], &found["layer"]), (&expected["unit"], &expected["layer"]), "{language}");
    assert_eq!(scores.len(), known.len(), "{language}");
    for (score, known) in scores.iter().zip(known) {
        let (score, known) = (score.as_f64().unwrap(), known.as_f64().unwrap());
        assert!((score - known).abs() <= TOLERANCE * known.abs().max(1.0), "{language}: {score}, {known}");
    }
}

#[test]
fn routers_in_every_language_choose_alike() {
    built_and_alike("request-router", &LANGUAGES, tempfile::tempdir().unwrap().path());
}

#[test]
fn metrics_in_every_language_measure_alike() {
    built_and_alike("evaluation-metric", &LANGUAGES, tempfile::tempdir().unwrap().path());
}

#[test]
fn endpoints_in_every_language_respond_alike() {
    built_and_alike("http-endpoint", &["rust", "javascript"], tempfile::tempdir().unwrap().path());
}

#[test]
fn policies_score_alike_and_replace_one_another_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let components = built_and_alike("scoring-policy", &LANGUAGES, folder.path());
    if components.is_empty() {
        return;
    }
    let model = synthetic::model(folder.path(), 1);
    let mut host = RunningHost::start(folder.path(), &[format!("{}={}", synthetic::NAME, model.display())]);
    let calibration = folder.path().join("calibration.txt");
    fs::write(&calibration, "Four score and seven years ago our fathers brought forth. ".repeat(100))
        .unwrap();
    let (done, began) = (AtomicBool::new(false), Instant::now());
    let mut jobs = Vec::new();
    let answered = std::thread::scope(|scope| {
        let requests = scope.spawn(|| {
            let mut answered = 0;
            // Also at some time, so that a failure below ends the test.
            while !done.load(Ordering::SeqCst) && began.elapsed() < PATIENCE {
                host.complete(synthetic::NAME, 4).success();
                answered += 1;
            }
            answered
        });
        for (round, (language, component)) in components.iter().cycle().take(2 * components.len()).enumerate()
        {
            let path = component.to_str().unwrap();
            let active = host.command(&["component", "deploy", path, "--slot", "scoring/heads"]);
            assert!(active.contains(&format!("{language}-part@0.1.0 is active")), "{active}");
            let out = folder.path().join(format!("pruned-{round}"));
            let request = json!({
                "kind": "prune", "model": synthetic::NAME, "policy": "heads", "units": ["head"], "keep": 0.96,
                "calibration": calibration, "windows": 2, "window_tokens": 64, "out": out,
            });
            // Not waited for: the next activation comes while it runs or waits.
            let started = http::post(&host.admin_url("/admin/v1/jobs"), &request).success();
            jobs.push((*language, started["id"].as_u64().unwrap(), out));
        }
        for (language, id, _) in &jobs {
            let job = host.job(*id);
            assert_eq!(job["state"], "succeeded", "{language}: {job}\n{}", host.log());
        }
        done.store(true, Ordering::SeqCst);
        requests.join().unwrap()
    });
    assert!(answered > 0);
    let weights = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
    let first = weights(&jobs[0].2);
    for (language, _, out) in &jobs {
        assert!(weights(out) == first, "{language} takes other heads out");
    }
    host.is_healthy();
}
