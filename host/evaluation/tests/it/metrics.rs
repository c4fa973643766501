//! Evaluations with a metric component: its figures, its progress, and how it ends early.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use espalier_components::{DIRECTORY_VARIABLE, EvaluationMetric, Host, HostConfig, Limits, TextScorer as _};
use espalier_evaluation::{EvaluationError, EvaluationRequest, ModelScorer, Step, Subject, evaluate};
use espalier_kernels::Cpu;

use crate::fixture::{Fixture, TEXT};

/// The built component.
fn perplexity(limits: Limits) -> EvaluationMetric {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/components");
    let folder = std::env::var_os(DIRECTORY_VARIABLE).map_or_else(default, PathBuf::from);
    let bytes = std::fs::read(folder.join("perplexity.wasm")).unwrap();
    let host = Host::new(HostConfig { metric: limits, ..HostConfig::default() }).unwrap();
    EvaluationMetric::new(host.load("perplexity", &bytes, None).unwrap()).unwrap()
}

fn tiny(fixture: &Fixture) -> [Subject; 1] {
    [Subject { name: "tiny".to_owned(), path: fixture.path("tiny") }]
}

fn request(fixture: &Fixture, max_tokens: usize) -> EvaluationRequest {
    let data = fixture.write("data.txt", TEXT.repeat(40));
    EvaluationRequest { data, max_tokens: Some(max_tokens), timing: None, agreement: None }
}

#[test]
fn a_component_measures_what_the_model_says_of_the_text() {
    let fixture = Fixture::new();
    let request = request(&fixture, 150);
    let mut steps = Vec::new();
    let mut progress = |step: Step<'_>| {
        steps.push((step.what.to_owned(), step.done, step.total));
        true
    };
    let (cpu, metrics) = (Cpu::new(1).unwrap(), [perplexity(Limits::metric())]);
    let report = evaluate(&cpu, None, &tiny(&fixture), &metrics, &request, &mut progress).unwrap();
    assert_eq!(report.metrics, ["perplexity@0.1.0"]);

    // The whole text is one window of the model, so both figures follow from one list of log-probabilities.
    let text = Arc::new(fixture.text(&TEXT.repeat(40), Some(150)));
    let bytes = text.byte_count(1..150) as f64;
    let scorer = ModelScorer::new("tiny".to_owned(), Arc::clone(&fixture.model), Arc::clone(&text));
    let scored = scorer.log_probabilities(text.tokens(), 1).unwrap();
    let loss = -scored.iter().map(|value| f64::from(*value)).sum::<f64>();
    let expected = [
        ("perplexity.stride", (loss / scored.len() as f64).exp()),
        ("bits-per-byte", loss / std::f64::consts::LN_2 / bytes),
    ];
    let measured = &report.rows[0].measurements;
    assert_eq!(measured.len(), expected.len(), "{measured:?}");
    for (measurement, (name, value)) in measured.iter().zip(expected) {
        assert_eq!(measurement.name, name);
        assert!((measurement.value / value - 1.0).abs() < 1e-9, "{measurement:?}, expected {value}");
    }
    assert_eq!(steps.last().unwrap(), &("perplexity".to_owned(), 149, Some(149)));
}

#[test]
fn a_component_at_work_is_cancelled() {
    let fixture = Fixture::new();
    // Many times what is scored before the first look.
    let request = EvaluationRequest { max_tokens: None, ..request(&fixture, 0) };
    let (cpu, metrics) = (Cpu::new(1).unwrap(), [perplexity(Limits::metric())]);
    let mut progress = |step: Step<'_>| step.what != "perplexity";
    let result = evaluate(&cpu, None, &tiny(&fixture), &metrics, &request, &mut progress);
    assert!(matches!(result, Err(EvaluationError::Cancelled)), "{result:?}");
}

#[test]
fn a_component_that_reaches_a_limit_is_named_with_it() {
    let fixture = Fixture::new();
    let (cpu, metrics) = (Cpu::new(1).unwrap(), [perplexity(Limits { host_calls: 2, ..Limits::metric() })]);
    let request = request(&fixture, 150);
    let error = evaluate(&cpu, None, &tiny(&fixture), &metrics, &request, &mut |_| true).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("perplexity@0.1.0") && message.contains("more than 2 host calls"), "{message}");
}
