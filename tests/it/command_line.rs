//! Exit statuses and messages of the program.

use crate::program;

#[test]
fn a_failure_is_one_sentence_and_status_1() {
    let output = program::run(&["inspect", "--model", "/no/such/model"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    assert!(said.starts_with("error: ") && said.contains("/no/such/model"), "{said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn wrong_usage_is_status_2() {
    for arguments in
        [vec![], vec!["no-such-command"], vec!["inspect"], vec!["serve", "--model", "x", "--no-such-option"]]
    {
        let output = program::run(&arguments);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn every_command_explains_itself() {
    for command in [
        "serve",
        "generate",
        "logits",
        "inspect",
        "prune",
        "evaluate",
        "export",
        "quantize",
        "synth",
        "component",
        "model",
        "bench",
    ] {
        let output = program::run(&[command, "--help"]);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!output.stdout.is_empty(), "{command}");
    }
}
