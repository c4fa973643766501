//! The model as metric components see it.

use std::sync::Arc;

use espalier_components::TextScorer;
use espalier_evaluation::{
    AgreementRequest, EvaluationError, EvaluationText, ModelScorer, TimingRequest, measure_agreement,
    measure_timing,
};
use espalier_kernels::{Cpu, Precision};
use espalier_model::{Checkpoint, Model};

use crate::fixture::{Fixture, TEXT};

fn scorer(fixture: &Fixture) -> ModelScorer {
    let text = Arc::new(fixture.text(&TEXT.repeat(12), None));
    ModelScorer::new("tiny".to_owned(), Arc::clone(&fixture.model), text)
}

/// ln softmax, straight from the definition.
fn log_probabilities(model: &Model, window: &[u32]) -> Vec<f64> {
    let width = model.spec().vocab_size;
    let mut logits = Vec::new();
    model
        .score(window, Precision::Exact, None, Some(&mut |_, rows: &[f32]| logits.extend_from_slice(rows)))
        .unwrap();
    let predicted = logits.chunks_exact(width).zip(&window[1..]);
    predicted
        .map(|(row, &token)| {
            let total: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
            f64::from(row[token as usize]) - total.ln()
        })
        .collect()
}

#[test]
fn log_probabilities_are_those_of_the_logits_wherever_scoring_begins() {
    let fixture = Fixture::new();
    let scorer = scorer(&fixture);
    // Longer than one pass before and after the first scored token.
    let window = &scorer.tokens()[..900];
    let expected = log_probabilities(&fixture.model, window);
    for score_from in [1, 2, 600, 899, 900] {
        let found = scorer.log_probabilities(window, score_from).unwrap();
        assert_eq!(found.len(), 900 - score_from);
        for (found, expected) in found.iter().zip(&expected[score_from - 1..]) {
            assert!((f64::from(*found) - expected).abs() < 1e-4, "{found} {expected}");
        }
    }
    assert_eq!(scorer.scored(), 899 + 898 + 300 + 1);
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
        EvaluationText::read(&path, &tokenizer, None).unwrap_err().to_string()
    };
    assert!(refusal(b"").ends_with("expected at least 2, one to predict another from"));
    assert!(refusal(b"ab\xffcd").ends_with("is not UTF-8 text (byte 2); expected plain text to evaluate on"));
    let missing = EvaluationText::read(&fixture.path("none.txt"), &tokenizer, None);
    assert!(matches!(missing, Err(EvaluationError::File { action: "read", .. })));
}

#[test]
fn a_cancelled_scorer_refuses_the_next_window() {
    let fixture = Fixture::new();
    let scorer = scorer(&fixture);
    scorer.cancel();
    let error = scorer.log_probabilities(&[1, 2, 3], 1).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(EvaluationError::Cancelled)));
}

#[test]
fn a_model_agrees_with_itself_and_not_with_another() {
    let fixture = Fixture::new();
    let text = fixture.text(&TEXT.repeat(4), None);
    let request = AgreementRequest { windows: 3, window_tokens: 64 };
    let measure = |model: &Model| {
        measure_agreement("tiny", model, &fixture.model, text.tokens(), &request, &mut |_, _| true)
    };
    let same = measure(&fixture.model).unwrap().unwrap();
    assert!(same.mean_kl.abs() < 1e-9 && same.same_top == 1.0);
    assert_eq!(same.positions, 3 * 32);

    let load = |path: std::path::PathBuf| {
        Model::load(&Checkpoint::open(&path).unwrap(), Cpu::new(1).unwrap()).unwrap()
    };
    let other = measure(&load(fixture.other("other", 320, 5))).unwrap().unwrap();
    assert!(other.mean_kl > 0.01 && other.same_top < 0.9, "{other:?}");
    let wider = measure(&load(fixture.other("wider", 352, 5)));
    assert!(matches!(wider, Err(EvaluationError::Vocabulary { found: 352, expected: 320, .. })));
}

#[test]
fn speed_is_measured_within_the_context() {
    let fixture = Fixture::new();
    let request = TimingRequest { prefill_tokens: 16, decode_tokens: 4, runs: 2 };
    let timing = measure_timing("tiny", &fixture.model, &request).unwrap();
    assert!(timing.prefill_ms_per_token > 0.0 && timing.decode_ms_per_token > 0.0);
    let too_long = TimingRequest { prefill_tokens: 2048, decode_tokens: 1, runs: 1 };
    let error = measure_timing("tiny", &fixture.model, &too_long).unwrap_err().to_string();
    assert_eq!(error, "tiny has a context of 2048 tokens; expected at least 2049 to measure its speed");
}
