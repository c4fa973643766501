//! Texts that are kept to a grammar: they keep to it whatever the model says, and are the same in any company.

use std::sync::LazyLock;
use std::sync::atomic::Ordering::Relaxed;

use espalier_engine::{
    Constraint, ConstraintCompiler, EngineConfig, Event, FinishReason, GenerateRequest, Grammar, Notation,
    SamplingParams,
};
use serde_json::{Value, json};

use crate::fixture::{Outcome, collect, config, counted, engine, model, prompt, sampled, sampling};

static COMPILER: LazyLock<ConstraintCompiler> = LazyLock::new(|| {
    let (model, tokenizer) = model();
    ConstraintCompiler::new(&tokenizer, model.spec().vocab_size, &model.spec().eos).unwrap()
});

fn constraint(notation: Notation) -> Constraint {
    COMPILER.compile(&Grammar::new(notation)).unwrap()
}

fn schema() -> Notation {
    Notation::JsonSchema(json!({
        "type": "object",
        "properties": {
            "kind": {"enum": ["red", "blue"]},
            "sizes": {"type": "array", "items": {"type": "integer", "minimum": -5, "maximum": 40}, "maxItems": 3},
        },
        "required": ["kind", "sizes"],
        "additionalProperties": false,
    }))
}

fn fits_schema(text: &str) -> bool {
    let Ok(Value::Object(found)) = serde_json::from_str(text) else { return false };
    let is_size =
        |size: &Value| size.as_f64().is_some_and(|size| (-5.0..=40.0).contains(&size) && size.fract() == 0.0);
    let sizes = found["sizes"].as_array().unwrap();
    found.len() == 2
        && ["red", "blue"].contains(&found["kind"].as_str().unwrap())
        && sizes.len() <= 3
        && sizes.iter().all(is_size)
}

/// A request for JSON that fits the schema; hot, so that the model alone would never write it.
fn request(seed: u32) -> GenerateRequest {
    let sampling = SamplingParams::new(1.5, 1.0, Some(u64::from(seed))).unwrap();
    let request = GenerateRequest::new(prompt(5 + seed as usize % 20, seed), Some(200), sampling, Vec::new());
    request.unwrap().with_constraint(constraint(schema()))
}

#[test]
fn json_fits_its_schema_and_is_the_same_in_any_company_and_with_guesses() {
    let plain = engine(&config());
    let alone: Vec<Outcome> = (0..12).map(|seed| collect(plain.submit(request(seed)).unwrap())).collect();
    let stopped = alone.iter().filter(|outcome| outcome.reason == FinishReason::Stop);
    assert!(stopped.clone().count() >= 8, "{alone:?}");
    for outcome in stopped {
        assert!(fits_schema(&outcome.text), "{outcome:?}");
    }
    let said = |outcomes: &[Outcome]| -> Vec<_> {
        outcomes.iter().map(|outcome| (outcome.text.clone(), outcome.reason)).collect()
    };
    let guessing = engine(&EngineConfig { speculative_tokens: 5, ..config() });
    for engine in [plain, guessing] {
        let streams: Vec<_> = (0..12)
            .flat_map(|seed| {
                let free = engine.submit(sampled(prompt(9, seed), 30, u64::from(seed))).unwrap();
                [engine.submit(request(seed)).unwrap(), free]
            })
            .collect();
        let together: Vec<Outcome> = streams.into_iter().map(collect).step_by(2).collect();
        assert_eq!(said(&together), said(&alone));
    }
}

#[test]
fn every_notation_and_every_way_of_sampling_is_kept() {
    let engine = engine(&config());
    let greedy = SamplingParams::greedy();
    for (notation, fits) in [
        (Notation::Regex("[ab]{3}[0-9]{2}".into()), (|text| text.len() == 5) as fn(&str) -> bool),
        (Notation::Choice(vec!["left".into(), "right".into()]), |text| ["left", "right"].contains(&text)),
        (Notation::Lark("start: \"<\" start \">\" | \"!\"".into()), |text| text.contains('!')),
    ] {
        for sampling in [greedy.clone(), sampling(3), sampling(4)] {
            let request = GenerateRequest::new(prompt(8, 1), Some(60), sampling, Vec::new()).unwrap();
            let outcome =
                collect(engine.submit(request.with_constraint(constraint(notation.clone()))).unwrap());
            assert!(
                outcome.reason == FinishReason::Length || fits(&outcome.text),
                "{notation:?} {outcome:?}"
            );
        }
    }
}

#[test]
fn limits_of_length_meet_the_grammar() {
    let engine = engine(&config());
    let run = |request: GenerateRequest| collect(engine.submit(request).unwrap());
    let base = |max_tokens| sampled(prompt(8, 2), max_tokens, 2);
    let fixed = || constraint(Notation::Choice(vec!["abcdef".into()]));
    let outcome = run(base(60).with_min_tokens(50).unwrap().with_constraint(fixed()));
    assert_eq!(
        (outcome.text.as_str(), outcome.reason),
        ("abcdef", FinishReason::Stop),
        "nothing else can follow"
    );
    let outcome = run(base(1).with_constraint(fixed()));
    assert_eq!(outcome.reason, FinishReason::Length);
    // A text that may end at any place, but not before its time, and not by an end token that ends nothing.
    let open = || constraint(Notation::Regex("[a-z]*".into()));
    let outcome = run(base(30).with_min_tokens(30).unwrap().with_constraint(open()));
    assert_eq!((outcome.usage.completion_tokens, outcome.reason), (30, FinishReason::Length));
    let outcome = run(base(30).ignoring_end().with_constraint(open()));
    assert_eq!((outcome.usage.completion_tokens, outcome.reason), (30, FinishReason::Length));
    assert!(outcome.text.bytes().all(|byte| byte.is_ascii_lowercase()), "{outcome:?}");
    let stop = GenerateRequest::new(prompt(8, 2), Some(60), sampling(2), vec!["cd".into()]).unwrap();
    assert_eq!(run(stop.with_constraint(fixed())).text, "ab");
}

#[test]
fn a_grammar_that_gets_too_complex_ends_its_own_request_only() {
    for speculative_tokens in [0, 5] {
        let (engine, counts) = counted(model(), &EngineConfig { speculative_tokens, ..config() });
        let hostile = constraint(Notation::Regex("((a{1,1000}){1,1000}){1,1000}".into()));
        let request = sampled(prompt(8, 3), 200, 3).ignoring_end().with_constraint(hostile);
        let mut stream = engine.submit(request).unwrap();
        let mut last = None;
        while let Some(event) = stream.blocking_recv() {
            last = Some(event);
        }
        assert!(
            matches!(last, Some(Event::GrammarTooComplex(reason)) if !reason.is_empty() && reason.len() < 500)
        );
        let next = collect(engine.submit(sampled(prompt(8, 3), 9, 3)).unwrap());
        assert_eq!(next.reason, FinishReason::Length);
        // The step that ended the request is counted by now, since another one was made after it.
        let [guessed, right] =
            [&counts.guessed_tokens, &counts.right_tokens].map(|count| count.load(Relaxed));
        assert!(right <= guessed, "{right} of {guessed} guesses were right");
    }
}

#[test]
fn nothing_is_generated_for_a_prompt_that_is_only_scored() {
    let engine = engine(&config());
    let request =
        GenerateRequest::new(prompt(100, 4), Some(0), SamplingParams::greedy(), Vec::new()).unwrap();
    let mut stream = engine.submit(request.with_logprobs(2).unwrap().with_prompt_logprobs()).unwrap();
    let Some(Event::Prompt { logprobs }) = stream.blocking_recv() else { panic!("the prompt's scores") };
    assert_eq!(logprobs.len(), 99);
    let outcome = collect(stream);
    assert_eq!((outcome.text.as_str(), outcome.reason), ("", FinishReason::Length));
    assert_eq!(outcome.usage.completion_tokens, 0);
}
