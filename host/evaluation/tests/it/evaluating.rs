//! Whole evaluations without metric components, which have a module of their own.

use espalier_evaluation::{EvaluationError, EvaluationRequest, Step, Subject, TimingRequest, evaluate};
use espalier_kernels::Cpu;

use crate::fixture::{Fixture, TEXT};

fn request(fixture: &Fixture) -> EvaluationRequest {
    EvaluationRequest {
        data: fixture.write("data.txt", TEXT.repeat(4)),
        max_tokens: Some(200),
        answer_tokens: 8,
        prompts: Vec::new(),
        timing: Some(TimingRequest { prefill_tokens: 8, decode_tokens: 2, runs: 1 }),
    }
}

fn subject(fixture: &Fixture, name: &str) -> Subject {
    Subject { name: name.to_owned(), path: fixture.path(name) }
}

#[test]
fn each_model_gets_a_row_and_the_baseline_comes_first() {
    let fixture = Fixture::new();
    fixture.other("small", 320, 3);
    let (baseline, small) = (subject(&fixture, "tiny"), subject(&fixture, "small"));
    let cpu = Cpu::new(1).unwrap();
    let mut seen = Vec::new();
    let mut progress = |step: Step<'_>| {
        seen.push(format!("{} {}", step.subject, step.what));
        true
    };
    let report =
        evaluate(&cpu.clone().into(), Some(&baseline), &[small], &[], &request(&fixture), &mut progress)
            .unwrap();
    assert_eq!(report.rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["tiny", "small"]);
    assert_eq!(report.data.tokens, 200);
    let (tiny, small) = (&report.rows[0], &report.rows[1]);
    assert!(small.parameters < tiny.parameters && small.bytes_on_disk < tiny.bytes_on_disk);
    assert_eq!(tiny.parameters, fixture.checkpoint.spec().parameters());
    assert!(report.rows.iter().all(|row| row.timing.is_some()));
    assert!(seen.contains(&"tiny timing".to_owned()) && seen.contains(&"small timing".to_owned()));
}

#[test]
fn an_evaluation_can_be_cancelled() {
    let fixture = Fixture::new();
    let cpu = Cpu::new(1).unwrap();
    let subjects = [subject(&fixture, "tiny")];
    let result = evaluate(&cpu.clone().into(), None, &subjects, &[], &request(&fixture), &mut |_| false);
    assert!(matches!(result, Err(EvaluationError::Cancelled)));
}

#[test]
fn a_model_that_is_not_there_is_named() {
    let fixture = Fixture::new();
    let cpu = Cpu::new(1).unwrap();
    let subjects = [subject(&fixture, "absent")];
    let error =
        evaluate(&cpu.clone().into(), None, &subjects, &[], &request(&fixture), &mut |_| true).unwrap_err();
    assert!(error.to_string().contains("absent"), "{error}");
    let none = evaluate(&cpu.clone().into(), None, &[], &[], &request(&fixture), &mut |_| true);
    assert!(matches!(none, Err(EvaluationError::NoSubject)));
}

#[test]
fn every_model_answers_the_same_prompts() {
    let fixture = Fixture::new();
    fixture.other("small", 320, 3);
    let (baseline, small) = (subject(&fixture, "tiny"), subject(&fixture, "small"));
    let cpu = Cpu::new(1).unwrap();
    let prompts = ["We the", "of the people"].map(str::to_owned).to_vec();
    let asked = EvaluationRequest { prompts: prompts.clone(), timing: None, ..request(&fixture) };
    let run = || {
        evaluate(&cpu.clone().into(), Some(&baseline), std::slice::from_ref(&small), &[], &asked, &mut |_| {
            true
        })
        .unwrap()
    };
    let report = run();
    assert_eq!(report.prompts, prompts);
    for row in &report.rows {
        assert_eq!(row.answers.len(), 2, "{row:?}");
        assert!(row.answers.iter().all(|answer| !answer.is_empty()), "{row:?}");
    }
    assert_ne!(report.rows[0].answers, report.rows[1].answers);
    assert_eq!(run().rows[0].answers, report.rows[0].answers);
}
