//! Evaluations with a metric component: its figures, its progress, and how it ends early.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use espalier_components::{DIRECTORY_VARIABLE, EvaluationMetric, Host, HostConfig, Limits, TextScorer as _};
use espalier_evaluation::{EvaluationError, EvaluationRequest, ModelScorer, Step, Subject, Work, evaluate};
use espalier_kernels::{Cpu, Precision};
use espalier_model::{Probe, ProbeSink};

use crate::fixture::{Fixture, TEXT};

/// A built component.
fn metric(name: &str, limits: Limits) -> EvaluationMetric {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/components");
    let folder = std::env::var_os(DIRECTORY_VARIABLE).map_or_else(default, PathBuf::from);
    let bytes = std::fs::read(folder.join(name).with_extension("wasm")).unwrap();
    let host = Host::new(HostConfig { metric: limits, ..HostConfig::default() }).unwrap();
    EvaluationMetric::new(host.load(name, &bytes, None).unwrap()).unwrap()
}

fn perplexity(limits: Limits) -> EvaluationMetric {
    metric("perplexity", limits)
}

fn tiny(fixture: &Fixture) -> [Subject; 1] {
    [Subject { name: "tiny".to_owned(), path: fixture.path("tiny") }]
}

fn request(fixture: &Fixture, max_tokens: usize) -> EvaluationRequest {
    let data = fixture.write("data.txt", TEXT.repeat(40));
    EvaluationRequest {
        data,
        max_tokens: Some(max_tokens),
        answer_tokens: 8,
        prompts: Vec::new(),
        timing: None,
    }
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
    let report =
        evaluate(&cpu.clone().into(), None, &tiny(&fixture), &metrics, &request, &mut progress).unwrap();
    assert_eq!(report.metrics, ["perplexity@0.1.0"]);

    // The whole text is one window of the model, so both figures follow from one list of log-probabilities.
    let text = Arc::new(fixture.text(&TEXT.repeat(40), Some(150)));
    let bytes = text.byte_count(1..150) as f64;
    let (model, work) = (Arc::clone(&fixture.model), Arc::new(Work::default()));
    let scorer = ModelScorer::new("tiny".to_owned(), model, Arc::clone(&text), work);
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

/// What a calibration records of the layers of a window.
#[derive(Default)]
struct Recorded {
    values: BTreeMap<(usize, Probe), Vec<f32>>,
}

impl ProbeSink for Recorded {
    fn wants(&self, layer: usize, probe: Probe) -> bool {
        probe == Probe::LayerOutput || (layer == 0 && probe == Probe::LayerInput)
    }

    fn record(&mut self, layer: usize, probe: Probe, _: usize, _: usize, values: &[f32]) {
        self.values.entry((layer, probe)).or_default().extend_from_slice(values);
    }
}

#[test]
fn hidden_states_are_what_a_calibration_records() {
    let fixture = Fixture::new();
    let request = request(&fixture, 150);
    let (cpu, metrics) = (Cpu::new(1).unwrap(), [metric("fixture-hidden-states-metric", Limits::metric())]);
    let report =
        evaluate(&cpu.clone().into(), None, &tiny(&fixture), &metrics, &request, &mut |_| true).unwrap();
    let text = fixture.text(&TEXT.repeat(40), Some(150));
    let mut recorded = Recorded::default();
    fixture.model.score(&text.tokens()[..8], Precision::Exact, Some(&mut recorded), None).unwrap();
    let measured = &report.rows[0].measurements;
    assert_eq!(measured.len(), 3 * 32, "the embeddings and two layers");
    for measurement in measured {
        let (behind, column) =
            measurement.name.strip_prefix("behind-").unwrap().split_once(".column-").unwrap();
        let (behind, column): (usize, usize) = (behind.parse().unwrap(), column.parse().unwrap());
        let key = behind.checked_sub(1).map_or((0, Probe::LayerInput), |layer| (layer, Probe::LayerOutput));
        let values = recorded.values[&key].iter().skip(column).step_by(32);
        let mean = values.map(|value| f64::from(*value)).sum::<f64>() / 8.0;
        assert!(
            (measurement.value - mean).abs() <= 1e-6 * mean.abs().max(1e-3),
            "{measurement:?}, recorded {mean}"
        );
    }
}

#[test]
fn a_component_at_work_is_cancelled() {
    let fixture = Fixture::new();
    // Many times what is scored before the first look.
    let request = EvaluationRequest { max_tokens: None, ..request(&fixture, 0) };
    let (cpu, metrics) = (Cpu::new(1).unwrap(), [perplexity(Limits::metric())]);
    let mut progress = |step: Step<'_>| step.what != "perplexity";
    let result = evaluate(&cpu.clone().into(), None, &tiny(&fixture), &metrics, &request, &mut progress);
    assert!(matches!(result, Err(EvaluationError::Cancelled)), "{result:?}");
}

#[test]
fn a_component_that_reaches_a_limit_is_named_with_it() {
    let fixture = Fixture::new();
    let (cpu, metrics) = (Cpu::new(1).unwrap(), [perplexity(Limits { host_calls: 2, ..Limits::metric() })]);
    let request = request(&fixture, 150);
    let error =
        evaluate(&cpu.clone().into(), None, &tiny(&fixture), &metrics, &request, &mut |_| true).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("perplexity@0.1.0") && message.contains("more than 2 host calls"), "{message}");
}

#[test]
fn answers_agreement_and_notes_come_to_the_report() {
    let fixture = Fixture::new();
    fixture.other("small", 320, 3);
    let subjects = tiny(&fixture);
    let small = Subject { name: "small".to_owned(), path: fixture.path("small") };
    let line = |fields: &str| format!("{{\"prompt\": \"The whale\", \"reference\": \"{TEXT}\"{fields}}}\n");
    let samples = [line(""), line(&format!(", \"candidate\": \"{TEXT}\""))].concat().repeat(20);
    let data = fixture.write("data.jsonl", samples);
    let request = EvaluationRequest {
        data,
        max_tokens: Some(1_000),
        answer_tokens: 8,
        prompts: Vec::new(),
        timing: None,
    };
    let metrics = ["bleu", "exact-match", "agreement"].map(|name| metric(name, Limits::metric()));
    let cpu = Cpu::new(1).unwrap();
    let report =
        evaluate(&cpu.clone().into(), Some(&subjects[0]), &[small], &metrics, &request, &mut |_| true)
            .unwrap();
    assert_eq!((report.data.samples, report.data.tokens), (40, 1_000));
    let names = |row: usize| -> Vec<&str> {
        report.rows[row].measurements.iter().map(|found| found.name.as_str()).collect()
    };
    let of_answers = ["bleu", "bleu.sentence", "exact-match", "exact-match.normalised"];
    assert_eq!(names(0), of_answers);
    let of_both = ["agreement.kl", "agreement.same-top", "agreement.loss-change"];
    assert_eq!(names(1), [of_answers.as_slice(), &of_both].concat());
    // The candidates are right, and random weights do not know the text.
    for row in &report.rows {
        assert_eq!(row.measurements[2].value, 0.5);
    }
    assert!(report.rows[1].measurements[4].value > 0.01);
    assert_eq!(
        report.notes,
        [
            "Answers: the most probable token every time, at most 8 of them.",
            "bleu: nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
        ]
    );
    let text = report.to_text();
    assert!(
        text.contains("Measured on 40 samples, the first 1000 tokens") && text.contains("|tok:13a|"),
        "{text}"
    );
}
