//! The model as a writer, as metric components see it.

use std::sync::Arc;
use std::time::Instant;

use espalier_components::{Generator, Sample, Sampling, StreamStep, TokenStream};
use espalier_evaluation::{EvaluationError, ModelGenerator, Work};

use crate::fixture::{Fixture, TEXT};

const GREEDY: Sampling =
    Sampling { max_tokens: 12, temperature: 0.0, top_p: 1.0, top_k: 0, seed: 0, log_probabilities: false };

fn question(prompt: &str) -> Sample {
    Sample { prompt: prompt.to_owned(), references: vec!["?".to_owned()], candidate: None }
}

fn generator(fixture: &Fixture, samples: Vec<Sample>, work: &Arc<Work>) -> ModelGenerator {
    let tokenizer = Arc::new(fixture.checkpoint.tokenizer().unwrap());
    let (model, work) = (Arc::clone(&fixture.model), Arc::clone(work));
    ModelGenerator::new("tiny".to_owned(), model, tokenizer, samples.into(), 12, work)
}

/// The text, tokens and log-probabilities of a whole continuation.
fn read(mut stream: Box<dyn TokenStream>) -> (String, Vec<u32>, Vec<f32>) {
    let (mut all, mut ids, mut scored) = (String::new(), Vec::new(), Vec::new());
    while let StreamStep::Piece { text, tokens, log_probabilities } = stream.next().unwrap() {
        all.push_str(&text);
        ids.extend(tokens);
        scored.extend(log_probabilities);
    }
    assert!(!matches!(stream.next(), Ok(StreamStep::Piece { .. })));
    (all, ids, scored)
}

#[test]
fn answers_are_greedy_continuations_whatever_is_answered_beside_them() {
    let fixture = Fixture::new();
    let work = Arc::new(Work::default());
    // More than run at once, and one that needs no answer.
    let prompts: Vec<String> = (0..20).map(|index| format!("{index} {TEXT}")).collect();
    let mut samples: Vec<Sample> = prompts.iter().map(|prompt| question(prompt)).collect();
    samples[3].candidate = Some("known".to_owned());
    let together = generator(&fixture, samples, &work);
    for index in [19, 0, 7] {
        let prompt = together.encode(&prompts[index]).unwrap();
        let (text, tokens, _) = read(together.begin(&prompt, &GREEDY).unwrap());
        assert_eq!(together.answer(index).unwrap(), text);
        assert!(!tokens.is_empty() && tokens.len() <= 12);
    }
    assert_eq!(together.answer(3).unwrap(), "");
}

#[test]
fn answers_and_continuations_say_how_long_they_took() {
    let fixture = Fixture::new();
    let samples = vec![question(TEXT), Sample { candidate: Some("known".to_owned()), ..question(TEXT) }];
    let writer = generator(&fixture, samples, &Arc::new(Work::default()));
    let started = Instant::now();
    let answer = writer.answer_timing(0).unwrap().unwrap();
    assert_eq!(answer.prompt_tokens, writer.encode(TEXT).unwrap().len());
    assert!(answer.tokens >= 1 && answer.tokens <= 12);
    assert!(answer.first_token <= answer.total && answer.total <= started.elapsed());
    assert_eq!(writer.answer_timing(0).unwrap(), Some(answer), "it is generated once");
    assert_eq!(writer.answer_timing(1).unwrap(), None, "the data has the answer");

    let mut stream = writer.begin(&writer.encode(TEXT).unwrap(), &GREEDY).unwrap();
    assert_eq!(stream.timing(), None);
    while let StreamStep::Piece { .. } = stream.next().unwrap() {}
    let timing = stream.timing().unwrap();
    assert_eq!((timing.prompt_tokens, timing.tokens), (answer.prompt_tokens, answer.tokens));
    assert!(timing.begun >= answer.begun + answer.total, "one clock for all");
}

#[test]
fn a_seed_repeats_a_draw_and_log_probabilities_are_the_models() {
    let fixture = Fixture::new();
    let writer = generator(&fixture, Vec::new(), &Arc::new(Work::default()));
    let prompt = writer.encode(TEXT).unwrap();
    let draw = |seed: u64| {
        let sampling = Sampling { temperature: 1.5, seed, log_probabilities: true, ..GREEDY };
        read(writer.begin(&prompt, &sampling).unwrap())
    };
    let (text, tokens, scored) = draw(7);
    assert_eq!(draw(7), (text, tokens.clone(), scored.clone()));
    assert_ne!(draw(8).1, tokens);
    assert_eq!(scored.len(), tokens.len());
    assert!(scored.iter().all(|value| *value < 0.0 && value.is_finite()));
}

#[test]
fn a_prompt_that_leaves_no_room_is_named_by_its_sample() {
    let fixture = Fixture::new();
    let long = TEXT.repeat(60);
    let writer = generator(&fixture, vec![question("a"), question(&long)], &Arc::new(Work::default()));
    let error = writer.answer(0).unwrap_err().to_string();
    let limit = writer.context_length().unwrap();
    assert!(error.starts_with("sample 2 cannot be answered: the prompt has "), "{error}");
    assert!(error.contains(&format!("expected fewer than {limit}")), "{error}");
}

#[test]
fn cancelled_work_ends_a_continuation() {
    let fixture = Fixture::new();
    let work = Arc::new(Work::default());
    let writer = generator(&fixture, Vec::new(), &work);
    let mut stream = writer.begin(&[1, 2, 3], &GREEDY).unwrap();
    work.cancel();
    let error = stream.next().unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(EvaluationError::Cancelled)), "{error}");
}
