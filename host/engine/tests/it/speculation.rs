//! Guesses change how many steps an answer takes, and nothing else.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use espalier_engine::{
    Engine, EngineConfig, EngineError, EngineModels, FinishReason, GenerateRequest, SamplingParams, Silent,
};
use espalier_model::Model;

use crate::fixture::{
    Counts, Loaded, collect, config, eventually, model, other_weights, prompt, sampled, sliding_model, start,
};

type Answer = (String, FinishReason, usize);

/// Who guesses.
type Draft = Option<Arc<Model>>;

fn greedy(prompt: Vec<u32>, max_tokens: usize) -> GenerateRequest {
    GenerateRequest::new(prompt, Some(max_tokens), SamplingParams::greedy(), Vec::new())
        .unwrap()
        .ignoring_end()
}

/// Requests of all kinds: sampled and greedy, long and short, with a text that repeats itself and without.
fn requests() -> Vec<GenerateRequest> {
    let repeating = prompt(12, 3).repeat(6);
    let stop = GenerateRequest::new(prompt(30, 5), Some(80), SamplingParams::greedy(), vec!["a".to_owned()]);
    let mut requests = vec![greedy(repeating.clone(), 70), greedy(prompt(5, 1), 100), stop.unwrap()];
    requests.extend((0..4).map(|seed| sampled(repeating.clone(), 40 + seed as usize, seed)));
    requests.push(sampled(prompt(40, 9), 1, 6));
    requests.push(sampled(prompt(40, 9), 2, 7));
    requests
}

/// The answers of all requests at once, and what the steps came to.
fn answers(loaded: &Loaded, draft: &Draft, config: &EngineConfig) -> (Vec<Answer>, Arc<Counts>) {
    let (engine, counts) = start(loaded.clone(), draft.clone(), config);
    let streams: Vec<_> = requests().into_iter().map(|request| engine.submit(request).unwrap()).collect();
    (streams.into_iter().map(|stream| collect(stream).answer()).collect(), counts)
}

/// The last step is counted after the end of the last answer.
fn until_idle(engine: &Engine) {
    eventually("an idle engine", || engine.status().running == 0);
}

fn every_answer_is_the_same(loaded: Loaded) {
    let (expected, _) = answers(&loaded, &None, &config());
    let guessing = EngineConfig { speculative_tokens: 6, ..config() };
    let tiny = EngineConfig { kv_bytes: 600 << 10, ..guessing.clone() };
    let uncached = EngineConfig { prefix_cache: false, ..guessing.clone() };
    for draft in [None, Some(loaded.0.clone()), Some(other_weights(&loaded))] {
        for config in [&guessing, &tiny, &uncached] {
            let (found, counts) = answers(&loaded, &draft, config);
            assert_eq!(found, expected);
            assert!(counts.guessed_tokens.load(Relaxed) > 0);
        }
    }
}

#[test]
fn every_answer_is_the_same_with_guesses() {
    every_answer_is_the_same(model());
}

#[test]
fn also_where_layers_slide() {
    every_answer_is_the_same(sliding_model());
}

#[test]
fn a_text_that_repeats_itself_takes_fewer_steps() {
    let run = |speculative_tokens| {
        let (engine, counts) = start(model(), None, &EngineConfig { speculative_tokens, ..config() });
        // A bias that nothing overcomes: the same token over and over.
        let sampling = SamplingParams::greedy().with_logit_bias(vec![(9, 100.0)]).unwrap();
        let request = GenerateRequest::new(prompt(20, 1), Some(100), sampling, Vec::new()).unwrap();
        let answer = collect(engine.submit(request.ignoring_end()).unwrap()).answer();
        until_idle(&engine);
        (answer, counts.steps.load(Relaxed))
    };
    let ((expected, plain), (found, guessed)) = (run(0), run(8));
    assert_eq!(found, expected);
    assert_eq!(plain, 100);
    assert!(guessed < 20, "{guessed} steps");
}

#[test]
fn a_draft_that_is_the_model_itself_is_always_right() {
    let guessing = EngineConfig { speculative_tokens: 7, max_step_tokens: 16, ..config() };
    for loaded in [model(), sliding_model()] {
        let (engine, counts) = start(loaded.clone(), Some(loaded.0.clone()), &guessing);
        // The draft computes the prompt after the model, in steps as long as the model's.
        collect(engine.submit(greedy(prompt(100, 3), 90)).unwrap());
        until_idle(&engine);
        let [guessed, right] =
            [&counts.guessed_tokens, &counts.right_tokens].map(|count| count.load(Relaxed));
        assert_eq!(guessed, right);
        assert!(guessed > 60, "{guessed}");
    }
}

#[test]
fn a_draft_shares_the_budget_of_the_cache() {
    let (loaded, config) = (model(), config());
    let engine = start(loaded.clone(), Some(other_weights(&loaded)), &config).0;
    assert!(engine.kv_bytes() as u64 <= config.kv_bytes);
    assert!(engine.kv_bytes() as u64 > config.kv_bytes / 2);
}

#[test]
fn a_draft_with_another_vocabulary_is_refused() {
    let ((model, tokenizer), (draft, _)) = (model(), sliding_model());
    let models = EngineModels { model, tokenizer, draft: Some(draft) };
    let Err(error) = Engine::start("tiny", models, &config(), Arc::new(Silent)) else { panic!("accepted") };
    assert!(matches!(error, EngineError::DraftVocabulary { expected: 300, .. }), "{error}");
}
