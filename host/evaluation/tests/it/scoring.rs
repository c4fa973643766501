//! The model as metric components see it.

use std::sync::Arc;

use espalier_components::{Baseline, TextScorer};
use espalier_evaluation::{
    EvaluationData, EvaluationError, EvaluationText, ModelComparison, ModelScorer, TimingRequest, Work,
    measure_timing,
};
use espalier_kernels::{Cpu, Precision};
use espalier_model::{Checkpoint, Model};

use crate::fixture::{Fixture, TEXT};

fn scorer(fixture: &Fixture, work: &Arc<Work>) -> ModelScorer {
    let text = Arc::new(fixture.text(&TEXT.repeat(12), None));
    ModelScorer::new("tiny".to_owned(), Arc::clone(&fixture.model), text, Arc::clone(work))
}

/// The whole distribution of each token but the first: ln softmax, straight from the definition.
fn distributions(model: &Model, window: &[u32]) -> Vec<Vec<f64>> {
    let width = model.spec().vocab_size;
    let mut logits = Vec::new();
    model
        .score(window, Precision::Exact, None, Some(&mut |_, rows: &[f32]| logits.extend_from_slice(rows)))
        .unwrap();
    let rows = logits.chunks_exact(width).take(window.len() - 1);
    rows.map(|row| {
        let total: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
        row.iter().map(|&logit| f64::from(logit) - total.ln()).collect()
    })
    .collect()
}

#[test]
fn log_probabilities_are_those_of_the_logits_wherever_scoring_begins() {
    let fixture = Fixture::new();
    let work = Arc::new(Work::default());
    let scorer = scorer(&fixture, &work);
    // Longer than one pass before and after the first scored token.
    let window = &scorer.tokens()[..900];
    let expected: Vec<f64> = distributions(&fixture.model, window)
        .iter()
        .zip(&window[1..])
        .map(|(distribution, &token)| distribution[token as usize])
        .collect();
    for score_from in [1, 2, 600, 899, 900] {
        let found = scorer.log_probabilities(window, score_from).unwrap();
        assert_eq!(found.len(), 900 - score_from);
        for (found, expected) in found.iter().zip(&expected[score_from - 1..]) {
            assert!((f64::from(*found) - expected).abs() < 1e-4, "{found} {expected}");
        }
    }
    assert_eq!(work.done(), 899 + 898 + 300 + 1);
}

#[test]
fn bytes_are_counted_by_what_the_tokens_stand_for() {
    let fixture = Fixture::new();
    let text = fixture.text("déjà vu, twice", None);
    let count = text.tokens().len();
    assert_eq!(text.byte_count(0..count), "déjà vu, twice".len() as u64);
    let split = (0..count).map(|at| text.byte_count(0..at) + text.byte_count(at..count));
    assert!(split.into_iter().all(|bytes| bytes == text.byte_count(0..count)));
    assert_eq!(text.byte_count(3..3), 0);
}

#[test]
fn special_tokens_that_are_spelled_in_a_text_are_text() {
    let fixture = Fixture::new();
    let text = fixture.text("a<|eos|>b", None);
    assert_eq!(text.record().bytes, 9);
}

#[test]
fn a_limit_keeps_the_start_of_the_text() {
    let fixture = Fixture::new();
    let whole = fixture.text(TEXT, None);
    let part = fixture.text(TEXT, Some(10));
    assert_eq!(part.tokens(), &whole.tokens()[..10]);
    assert!(part.record().truncated && !whole.record().truncated);
    assert_eq!(part.record().sha256, whole.record().sha256);
}

#[test]
fn texts_that_cannot_be_measured_on_are_refused() {
    let fixture = Fixture::new();
    let tokenizer = fixture.checkpoint.tokenizer().unwrap();
    let refusal = |contents: &[u8]| {
        let path = fixture.write("bad.txt", contents);
        let data = EvaluationData::read(&path);
        data.and_then(|data| EvaluationText::tokenise(&data, &tokenizer, None)).unwrap_err().to_string()
    };
    assert!(refusal(b"").ends_with("expected at least 2, one to predict another from"));
    assert!(refusal(b"ab\xffcd").ends_with("is not UTF-8 text (byte 2); expected plain text to evaluate on"));
    let missing = EvaluationData::read(&fixture.path("none.txt"));
    assert!(matches!(missing, Err(EvaluationError::File { action: "read", .. })));
}

#[test]
fn a_cancelled_scorer_refuses_the_next_window() {
    let fixture = Fixture::new();
    let work = Arc::new(Work::default());
    let scorer = scorer(&fixture, &work);
    work.cancel();
    let error = scorer.log_probabilities(&[1, 2, 3], 1).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(EvaluationError::Cancelled)));
}

#[test]
fn a_model_is_compared_with_its_baseline_token_by_token() {
    let fixture = Fixture::new();
    let load = |name: &str, vocabulary: usize| {
        let checkpoint = Checkpoint::open(&fixture.other(name, vocabulary, 5)).unwrap();
        Arc::new(Model::load(&checkpoint, Cpu::new(1).unwrap()).unwrap())
    };
    let compare = |model: &Arc<Model>, window: &[u32], from: usize| {
        let (baseline, work) = (Arc::clone(&fixture.model), Arc::new(Work::default()));
        ModelComparison::new("tiny".to_owned(), Arc::clone(model), baseline, work).compare(window, from)
    };
    let text = fixture.text(&TEXT.repeat(6), None);
    // Longer than one piece of logits.
    let window = &text.tokens()[..300];
    for token in compare(&fixture.model, window, 150).unwrap() {
        assert!(token.divergence.abs() < 1e-9 && token.same_top, "{token:?}");
        assert_eq!(token.log_probability, token.baseline_log_probability);
    }

    let other = load("other", 320);
    let (p, q) = (distributions(&fixture.model, window), distributions(&other, window));
    let top = |distribution: &[f64]| (0..320).max_by(|&a, &b| distribution[a].total_cmp(&distribution[b]));
    let compared = compare(&other, window, 1).unwrap();
    assert_eq!(compared.len(), 299);
    for (index, found) in compared.iter().enumerate() {
        let (p, q, token) = (&p[index], &q[index], window[index + 1] as usize);
        let divergence: f64 = p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum();
        assert!((found.divergence - divergence).abs() < 1e-6, "{found:?}, expected {divergence}");
        assert_eq!(found.same_top, top(p) == top(q));
        assert!((f64::from(found.baseline_log_probability) - p[token]).abs() < 1e-4);
        assert!((f64::from(found.log_probability) - q[token]).abs() < 1e-4);
    }

    let wider = compare(&load("wider", 352), window, 1).unwrap_err();
    assert!(matches!(
        wider.downcast_ref(),
        Some(EvaluationError::Vocabulary { found: 352, expected: 320, .. })
    ));
}

#[test]
fn speed_is_measured_within_the_context() {
    let fixture = Fixture::new();
    let request = TimingRequest { prefill_tokens: 16, decode_tokens: 4, runs: 2 };
    let timing = measure_timing("tiny", &fixture.model, &request).unwrap();
    assert!(timing.prefill_ms_per_token > 0.0 && timing.decode_ms_per_token > 0.0);
    let too_long = TimingRequest { prefill_tokens: 2048, decode_tokens: 1, runs: 1 };
    let error = measure_timing("tiny", &fixture.model, &too_long).unwrap_err().to_string();
    assert_eq!(error, "tiny has a context of 2048 tokens; expected at least 2049 for the measurement");
}
