//! `espalier component new`, `test` and `record` from the command line: what they refuse, that what is committed is what they
//! make, and that the tutorial shows what a project has. That projects build is tested in `component_projects.rs`.

use std::fs;
use std::path::Path;

use crate::program;

const LANGUAGES: [&str; 4] = ["rust", "python", "javascript", "c"];

/// Exit status and standard error.
fn run(arguments: &[&str]) -> (i32, String) {
    let output = program::run(arguments);
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn new(language: &str, world: &str, name: &str, parent: &Path) -> (i32, String) {
    let parent = parent.to_str().unwrap();
    run(&["component", "new", "--lang", language, "--world", world, "--parent", parent, "--", name])
}

/// A file of the templates' test data.
fn data(name: &str) -> String {
    program::root().join("components/sdk/test-data").join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_project_does_not_overwrite_and_does_not_leave_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let parent = folder.path();
    assert_eq!(new("python", "request-router", "mine", parent).0, 0);
    let (status, message) = new("javascript", "request-router", "mine", parent);
    assert_eq!(status, 1, "{message}");
    assert!(message.contains("exists already"), "{message}");
    assert!(!parent.join("mine/component.js").exists());
    for name in ["../out", "/tmp/out", "a/b", "..", ".", "A", "", "a b", "-a"] {
        let (status, message) = new("rust", "request-router", name, parent);
        assert_eq!(status, 2, "{name}: {message}");
        assert!(message.contains("lower-case letters"), "{name}: {message}");
    }
    assert_eq!(fs::read_dir(parent).unwrap().count(), 1);
}

#[test]
fn unknown_languages_and_worlds_are_answered_with_those_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let (status, message) = new("cobol", "request-router", "mine", folder.path());
    assert_eq!(status, 2, "{message}");
    assert!(LANGUAGES.iter().all(|language| message.contains(language)), "{message}");
    for language in ["python", "c"] {
        let (status, message) = new(language, "http-endpoint", "mine", folder.path());
        assert_eq!(status, 1, "{message}");
        assert!(message.contains("expected rust or javascript"), "{message}");
    }
    assert!(!folder.path().join("mine").exists());
    let (status, message) = new("rust", "browser", "mine", folder.path());
    assert_eq!(status, 2, "{message}");
    assert!(message.contains("request-router"), "{message}");
}

#[test]
fn a_component_without_its_input_or_with_another_answer_fails() {
    let router = program::component("least-busy");
    let router = router.to_str().unwrap();
    let (status, message) = run(&["component", "test", router]);
    assert_eq!(status, 1, "{message}");
    assert!(message.contains("expected --requests FILE"), "{message}");
    let requests = data("request-router/requests.json");
    let test =
        |expected: &str| run(&["component", "test", router, "--requests", &requests, "--expect", expected]);
    assert_eq!(test(&data("request-router/expected.jsonl")), (0, String::new()));
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.jsonl");
    fs::write(&other, "{\"order\":[\"small\",\"original\"],\"shadow\":null}\n".repeat(2)).unwrap();
    let (status, message) = test(other.to_str().unwrap());
    assert_eq!(status, 1, "{message}");
    assert!(message.contains("answer 2: found"), "{message}");
}

#[test]
fn an_endpoint_is_asked_what_the_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let requests = folder.path().join("requests.json");
    let test = |component: &str, file: &str| {
        fs::write(&requests, file).unwrap();
        let component = program::component(component);
        let output = program::run(&[
            "component",
            "test",
            component.to_str().unwrap(),
            "--requests",
            requests.to_str().unwrap(),
        ]);
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), said(&output.stdout), said(&output.stderr))
    };
    let (status, answer, message) = test("no-op", r#"{"requests": [{"method": "GET", "path": "/x?y"}]}"#);
    assert_eq!(status, 0, "{message}");
    let ok = r#"{"status":200,"headers":{"content-type":"text/plain"},"body":"ok"}"#;
    assert_eq!(answer.trim(), ok);
    // Its answer has the pieces of both models, and what they cost.
    let body = r#"{\"prompt\": \"x\", \"variants\": [\"a\", \"b\"], \"max_tokens\": 2}"#;
    let (status, answer, message) = test(
        "compare",
        &format!(
            r#"{{
                "variants": [
                    {{"model": "m", "name": "a", "answer": ["red", " pear", " tree"]}},
                    {{"model": "m", "name": "b", "answer": ["plum"]}}
                ],
                "requests": [{{"method": "POST", "path": "/", "body": "{body}"}}]
            }}"#
        ),
    );
    assert_eq!(status, 0, "{message}");
    for expected in ["red", " pear", "plum", r#"length"#, r#"stop"#] {
        assert!(answer.contains(expected), "{expected}: {answer}");
    }
    assert!(!answer.contains(" tree"), "{answer}");
    for (file, problem) in [
        (r#"{"requests": [{"method": "GET"}]}"#, "missing field `path`"),
        (r#"{"requests": [{"method": "G T", "path": "/"}]}"#, "requests[0]"),
        (r#"{"requests": [], "models": []}"#, "unknown field `models`"),
    ] {
        let (status, _, message) = test("no-op", file);
        assert_eq!(status, 1, "{message}");
        assert!(message.contains(problem), "{problem}: {message}");
    }
}

#[test]
fn only_a_module_with_a_world_becomes_a_component() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.wasm");
    let link = |name: &str, module: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, module).unwrap();
        run(&["component", "link", path.to_str().unwrap(), "--out", out.to_str().unwrap()])
    };
    for module in [&b""[..], b"int main;", &fs::read(program::component("least-busy")).unwrap()] {
        let (status, message) = link("wrong.wasm", module);
        assert_eq!(status, 1, "{message}");
        assert!(message.contains("wrong.wasm is no module that a component can be made of"), "{message}");
    }
    // A module that says nothing has an empty world, which is none of the host's.
    assert_eq!(link("empty.wasm", b"\0asm\x01\0\0\0"), (0, String::new()));
    let (status, message) = run(&["component", "test", out.to_str().unwrap()]);
    assert_eq!(status, 1, "{message}");
    let (status, message) = run(&["component", "link", "absent.wasm", "--out", out.to_str().unwrap()]);
    assert_eq!(status, 1, "{message}");
    assert!(message.contains("absent.wasm cannot be read"), "{message}");
}

/// Other processors round otherwise, so the recorded bytes are not compared, but what the built-in policy makes of them.
#[test]
fn the_recorded_traces_are_those_of_the_built_in_model() {
    let folder = tempfile::tempdir().unwrap();
    let model = program::root().join("host/cli/built-in-model/model");
    let fresh = folder.path().join("traces.safetensors");
    let fresh = fresh.to_str().unwrap();
    let (status, message) =
        run(&["component", "record", "--model", model.to_str().unwrap(), "--out", fresh, "--device", "cpu"]);
    assert_eq!(status, 0, "{message}");
    let policy = program::component("activation-norm");
    let expected = data("scoring-policy/expected.jsonl");
    for traces in [fresh, &data("scoring-policy/traces.safetensors")] {
        let (status, message) = run(&[
            "component",
            "test",
            policy.to_str().unwrap(),
            "--units",
            "head",
            "--traces",
            traces,
            "--expect",
            &expected,
        ]);
        assert_eq!(status, 0, "{message}");
    }
}

#[test]
fn the_tutorial_shows_the_code_and_the_commands_of_the_template() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(new("python", "scoring-policy", "my-policy", folder.path()).0, 0);
    let project = folder.path().join("my-policy");
    let page = fs::read_to_string(program::root().join("docs/tutorial.md")).unwrap();
    for file in ["app.py", "scoring.py"] {
        let code = fs::read_to_string(project.join(file)).unwrap();
        assert!(page.contains(&format!("```python\n{code}```\n")), "{file} is not in docs/tutorial.md");
    }
    assert_eq!(page.matches("```python").count(), 2);
    let readme = fs::read_to_string(project.join("README.md")).unwrap();
    for command in ["componentize-py -q", "espalier component test", "espalier component deploy"] {
        let line = readme.lines().map(str::trim).find(|line| line.starts_with(command)).unwrap();
        assert!(page.lines().any(|of_page| of_page == line), "{line} is not in docs/tutorial.md");
    }
}
