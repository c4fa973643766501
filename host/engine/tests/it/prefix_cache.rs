//! What was computed for one request serves others that begin like it.

use std::sync::atomic::Ordering::Relaxed;

use espalier_engine::{EngineConfig, GenerateRequest};

use crate::fixture::{Loaded, collect, config, counted, model, prompt, sampled, sliding_model};

const SHARED: usize = 400;
const REQUESTS: u64 = 50;

fn long() -> EngineConfig {
    EngineConfig { max_model_len: Some(512), ..config() }
}

/// 400 tokens that all have, and a few of its own.
fn request(seed: u64) -> GenerateRequest {
    let mut tokens = prompt(SHARED, 7);
    tokens.extend(prompt(9 + seed as usize % 5, seed as u32));
    sampled(tokens, 12, seed)
}

fn a_shared_beginning_is_computed_once(loaded: Loaded) {
    let run = |prefix_cache| {
        let (engine, counts) = counted(loaded.clone(), &EngineConfig { prefix_cache, ..long() });
        let gate = counts.gate.lock().unwrap();
        let streams: Vec<_> = (0..REQUESTS).map(|seed| engine.submit(request(seed)).unwrap()).collect();
        drop(gate);
        let answers: Vec<_> = streams.into_iter().map(|stream| collect(stream).answer()).collect();
        (answers, counts.prefill_tokens.load(Relaxed))
    };
    let (cached, uncached) = (run(true), run(false));
    assert!(cached.0 == uncached.0);
    assert!(cached.1 * 100 <= uncached.1 * 15, "{} of {} prompt tokens computed", cached.1, uncached.1);
}

#[test]
fn a_beginning_that_fifty_requests_share_is_computed_once() {
    a_shared_beginning_is_computed_once(model());
}

#[test]
fn also_where_layers_slide() {
    a_shared_beginning_is_computed_once(sliding_model());
}

#[test]
fn a_usage_says_how_much_was_there() {
    for loaded in [model(), sliding_model()] {
        let (engine, counts) = counted(loaded, &long());
        let cached = |request| collect(engine.submit(request).unwrap()).usage.cached_tokens;
        assert_eq!(cached(request(1)), 0);
        assert_eq!(cached(request(1)), SHARED + 9, "all but the last token, whose logits are wanted");
        assert_eq!(cached(request(2)), SHARED, "in the middle of a block");
        assert_eq!(cached(request(3).with_cache_salt("a".into())), 0);
        assert_eq!(cached(request(4).with_cache_salt("a".into())), SHARED);
        let scored = request(1).with_logprobs(0).unwrap().with_prompt_logprobs();
        assert_eq!(cached(scored), 0, "all logits are wanted");
        assert_eq!(counts.prefix_hits.load(Relaxed), 3 * SHARED + 9);
        let searched = [1, 1, 2, 3, 4].map(|seed| request(seed).prompt_tokens());
        assert_eq!(counts.prefix_queries.load(Relaxed), searched.iter().sum::<usize>());
    }
}

#[test]
fn an_answer_is_part_of_the_next_prompt() {
    for loaded in [model(), sliding_model()] {
        let (engine, _) = counted(loaded, &long());
        let first = sampled(prompt(50, 1), 100, 4).with_every_token().ignoring_end();
        let mut stream = engine.submit(first).unwrap();
        let mut tokens = prompt(50, 1);
        while let Some(event) = stream.blocking_recv() {
            if let espalier_engine::Event::Text { token_ids, .. } = event {
                tokens.extend(token_ids);
            }
        }
        assert_eq!(tokens.len(), 150);
        tokens.extend([5, 6, 7]);
        let usage = collect(engine.submit(sampled(tokens, 5, 4)).unwrap()).usage;
        assert_eq!(usage.cached_tokens, 128, "the full blocks of question and answer");
    }
}
