//! What the engine refuses, and how it says so.

use std::sync::Arc;

use espalier_engine::{Engine, EngineConfig, EngineError, EngineModels, Silent};
use espalier_kernels::CacheFormat;

use crate::fixture::{collect, config, engine, model, prompt, sampled, sliding_model};

#[test]
fn a_prompt_as_long_as_the_context_is_refused_with_both_numbers() {
    let error = engine(&config()).submit(sampled(prompt(256, 0), 1, 0)).unwrap_err();
    assert!(matches!(error, EngineError::PromptTooLong { found: 256, limit: 256 }));
    assert_eq!(
        error.to_string(),
        "the prompt has 256 tokens, expected fewer than 256, the context length of this model"
    );
}

#[test]
fn a_full_queue_refuses_and_recovers() {
    let engine = engine(&EngineConfig { max_sequences: 1, queue_limit: 2, ..config() });
    // Submitting takes microseconds and a request milliseconds, so the queue fills whatever the machine does.
    let mut accepted = Vec::new();
    let error = loop {
        match engine.submit(sampled(prompt(4, 0), 200, 0)) {
            Ok(stream) => accepted.push(stream),
            Err(error) => break error,
        }
        assert!(accepted.len() < 10_000, "the queue never filled");
    };
    assert!(matches!(error, EngineError::QueueFull { limit: 2, .. }), "{error}");
    accepted.into_iter().for_each(|stream| {
        collect(stream);
    });
    collect(engine.submit(sampled(prompt(4, 9), 2, 0)).unwrap());
}

#[test]
fn a_draining_engine_finishes_what_it_has() {
    let engine = engine(&config());
    let stream = engine.submit(sampled(prompt(10, 0), 60, 4)).unwrap();
    engine.drain();
    let error = engine.submit(sampled(prompt(10, 0), 1, 4)).unwrap_err();
    assert_eq!(error.to_string(), "tiny is draining and takes no new requests");
    assert!(collect(stream).usage.completion_tokens > 0);
}

#[test]
fn a_context_that_exceeds_the_budget_is_refused_with_both_figures() {
    let (model, tokenizer) = model();
    let start = |kv_format| {
        let config = EngineConfig { kv_bytes: 1 << 16, kv_format, ..config() };
        let models = EngineModels { model: model.clone(), tokenizer: tokenizer.clone(), draft: None };
        Engine::start("tiny", models, &config, Arc::new(Silent))
    };
    let engine = start(CacheFormat::F16).unwrap();
    assert!(engine.kv_bytes() <= 1 << 16);
    let error = start(CacheFormat::F32).err().unwrap();
    assert!(matches!(error, EngineError::CacheTooSmall { tokens: 256, budget: 65536, .. }), "{error}");
}

#[test]
fn a_budget_is_never_exceeded_and_holds_one_sequence_whatever_it_is() {
    for loaded in [model(), sliding_model()] {
        let start = |kv_bytes| {
            let config = EngineConfig { kv_bytes, ..config() };
            let (model, tokenizer) = loaded.clone();
            let models = EngineModels { model, tokenizer, draft: None };
            Engine::start("tiny", models, &config, Arc::new(Silent))
        };
        let Err(EngineError::CacheTooSmall { needed, .. }) = start(1) else {
            panic!("a cache of one byte was accepted")
        };
        assert!(start(needed - 1).is_err());
        for kv_bytes in [needed, needed + 1, needed * 3 / 2, needed * 10] {
            let engine = start(kv_bytes).unwrap();
            assert!(engine.kv_bytes() as u64 <= kv_bytes);
            let longest = [200, 55].map(|length| sampled(prompt(length, 1), 1000, 3).ignoring_end());
            let streams = longest.map(|request| engine.submit(request).unwrap());
            for stream in streams {
                let usage = collect(stream).usage;
                assert_eq!(usage.prompt_tokens + usage.completion_tokens, 256);
            }
        }
    }
}
