//! Metrics that misbehave with what the host lends them: sessions, notes, arguments.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use espalier_components::{ComponentError, Host, HostConfig, Limit, Limits, MetricInputs, MetricReport};

use crate::guests::{facts, metric};
use crate::scripted_model::{ScriptedModel, ScriptedWriter, figure, hidden_state, inputs, measure, sample};

/// What became of the metric that misbehaves like this, and how many continuations outlived it.
fn run(behaviour: &str) -> (Result<MetricReport, ComponentError>, usize) {
    let writer = ScriptedWriter::default();
    let alive: Arc<AtomicUsize> = Arc::clone(&writer.alive);
    let inputs = MetricInputs {
        facts: facts(behaviour),
        samples: [sample("", &["x"])].into(),
        generator: Arc::new(writer),
        ..inputs(ScriptedModel::new(8, 512, None))
    };
    let result = measure("fixture-hostile-metric", inputs);
    (result, alive.load(Ordering::Relaxed))
}

#[test]
fn limits_of_sessions_tokens_and_notes_are_enforced() {
    let limits = Limits::metric();
    let cases = [
        ("hoard-sessions", Limit::Sessions(limits.sessions)),
        ("endless-tokens", Limit::GeneratedTokens(limits.generated_tokens)),
        ("note-flood", Limit::Notes(limits.notes)),
    ];
    for (behaviour, expected) in cases {
        let (result, alive) = run(behaviour);
        match result {
            Err(ComponentError::Limit { component, call: "evaluate", limit }) => {
                assert_eq!((component.as_str(), limit), ("fixture-hostile-metric@0.1.0", expected));
            }
            other => panic!("{behaviour} ended in {other:?}"),
        }
        assert_eq!(alive, 0, "{behaviour}");
    }
}

#[test]
fn a_dropped_session_is_cancelled_and_makes_room() {
    // More sessions than may be held at once.
    let (result, alive) = run("drop-sessions");
    assert_eq!((result.unwrap(), alive), (MetricReport::default(), 0));
}

#[test]
fn the_end_of_a_session_is_said_again() {
    let report = run("read-beyond-the-end").0.unwrap();
    let found = ["pieces", "tokens", "log-probabilities", "ends"].map(|name| figure(&report, name).0);
    assert_eq!(found, [4.0, 4.0, 4.0, 5.0]);
}

#[test]
fn hidden_states_count_towards_the_quota_and_their_arguments_are_checked() {
    let show = |behaviour: &str, limits: Limits| {
        let host = Host::new(HostConfig { metric: limits, ..HostConfig::default() }).unwrap();
        let inputs = MetricInputs { facts: facts(behaviour), ..inputs(ScriptedModel::new(8, 512, None)) };
        metric(&host, "fixture-hidden-states-metric").evaluate(inputs)
    };
    let report = show("llama", Limits::metric()).unwrap();
    let tokens = ScriptedModel::new(8, 512, None).tokens.clone();
    let layers = facts("llama").layers.len();
    for (behind, column) in [(0, 0), (layers, 5)] {
        let states = tokens.iter().map(|&token| f64::from(hidden_state(token, behind, column)));
        let mean = states.sum::<f64>() / 8.0;
        assert!((figure(&report, &format!("behind-{behind}.column-{column}")).0 - mean).abs() < 1e-5);
    }

    let limits = Limits { tensor_bytes: 1 << 12, ..Limits::metric() };
    match show("hoard-tensors", limits) {
        Err(ComponentError::Limit { limit: Limit::TensorBytes { allowed: 4_096, .. }, .. }) => {}
        other => panic!("{other:?}"),
    }
    let error = show("wrong-arguments", Limits::metric()).unwrap_err().to_string();
    let said: Vec<&str> = error.split(": ").nth(1).unwrap().lines().collect();
    let vocabulary = facts("llama").vocab_size;
    let expected = [
        "a window of 0 tokens, expected 1 to 512".to_owned(),
        "a window of 513 tokens, expected 1 to 512".to_owned(),
        format!("token {vocabulary} of a vocabulary of {vocabulary}"),
        format!("{} layers, expected 0 to {layers}", layers + 1),
    ];
    assert_eq!(said, expected);
}

#[test]
fn a_note_is_one_line_and_not_long() {
    let report = run("gigantic-note").0.unwrap();
    let [note] = report.notes.as_slice() else { panic!("{:?}", report.notes.len()) };
    assert!(note.starts_with("two linesxxx") && note.chars().count() == Limits::metric().log_line_length + 1);
}

#[test]
fn wrong_arguments_are_refused_by_name() {
    let error = run("wrong-arguments").0.unwrap_err().to_string();
    let said: Vec<&str> = error.split(": ").nth(1).unwrap().lines().collect();
    let expected = [
        "max-tokens 0, expected at least 1",
        "temperature NaN, expected 0 to 2",
        "top-p 0, expected a number above 0 and at most 1",
        "a prompt of 0 tokens, expected 1 to 255",
        "token 4294967295 of a vocabulary of 100",
        "a prompt of 256 tokens, expected 1 to 255",
        "the sample at 1 of 1, which are counted from 0",
        "the sample at 4294967295 of 1, which are counted from 0",
        "there is no baseline to compare with",
    ];
    assert_eq!(said, expected);
}
