//! What an answer is does not depend on what the scheduler does: who else runs, how prompts are cut, who has to give up
//! its blocks, what was in the cache.

use std::sync::atomic::Ordering::Relaxed;

use espalier_engine::{EngineConfig, FinishReason, GenerateRequest};
use espalier_kernels::CacheFormat;

use crate::fixture::{Loaded, collect, config, counted, model, prompt, sampled, sampling, sliding_model};

type Answer = (String, FinishReason, usize);

const FORMATS: [CacheFormat; 2] = [CacheFormat::F32, CacheFormat::F16];

/// Requests of different lengths; some begin alike, the last three are choices for one prompt.
fn requests() -> Vec<GenerateRequest> {
    let shared = prompt(70, 1);
    let with = |own: usize, seed| [shared.as_slice(), &prompt(own, seed)].concat();
    let mut requests: Vec<_> = [prompt(1, 2), with(5, 3), prompt(33, 4), with(40, 5), with(3, 6)]
        .into_iter()
        .enumerate()
        .map(|(seed, prompt)| sampled(prompt, 60 + 5 * seed, seed as u64))
        .collect();
    requests.extend((0..3).map(|choice| {
        let sampling = sampling(40).for_choice(choice);
        GenerateRequest::new(with(20, 7), Some(70), sampling, Vec::new()).unwrap()
    }));
    requests
}

fn alone(loaded: &Loaded, config: &EngineConfig) -> Vec<Answer> {
    let off = EngineConfig { prefix_cache: false, ..config.clone() };
    let run = |request| collect(counted(loaded.clone(), &off).0.submit(request).unwrap()).answer();
    requests().into_iter().map(run).collect()
}

/// All at once, while others join and leave. Also returns how often blocks were given up.
fn together(loaded: &Loaded, config: &EngineConfig) -> (Vec<Answer>, usize) {
    let (engine, counts) = counted(loaded.clone(), config);
    let gate = counts.gate.lock().unwrap();
    let mut passers = Vec::new();
    let mut streams = Vec::new();
    for (seed, request) in requests().into_iter().enumerate() {
        passers.push(engine.submit(sampled(prompt(20 + seed, 90 + seed as u32), 200, 1)).unwrap());
        streams.push(engine.submit(request).unwrap());
        if seed % 3 == 2 {
            passers.remove(0);
        }
    }
    drop(gate);
    let answers = streams.into_iter().map(|stream| collect(stream).answer()).collect();
    (answers, counts.preemptions.load(Relaxed))
}

fn answers_are_the_same_however_they_are_scheduled(loaded: &Loaded, small: u64) {
    for kv_format in FORMATS {
        let bytes_of_f16 = if kv_format == CacheFormat::F32 { 2 } else { 1 };
        let whole = EngineConfig { kv_format, max_step_tokens: 512, max_sequences: 12, ..config() };
        let expected = alone(loaded, &whole);
        for (max_step_tokens, prefix_cache) in [(512, true), (512, false), (17, true), (17, false)] {
            let chunked = EngineConfig { max_step_tokens, prefix_cache, ..whole.clone() };
            assert!(together(loaded, &chunked).0 == expected, "{chunked:?}");
            let short = EngineConfig { kv_bytes: small * bytes_of_f16, ..chunked };
            let (answers, preemptions) = together(loaded, &short);
            assert!(answers == expected, "{short:?}");
            assert!(preemptions > 0, "nothing was preempted with {short:?}");
        }
    }
}

#[test]
fn a_llama_answers_the_same() {
    // A sequence of 256 tokens takes 8 blocks of 8 KiB.
    answers_are_the_same_however_they_are_scheduled(&model(), 14 << 13);
}

#[test]
fn a_model_with_sliding_layers_answers_the_same() {
    // Each kind of block takes 4 KiB, and so do all layers of a kind.
    answers_are_the_same_however_they_are_scheduled(&sliding_model(), 18 << 12);
}

#[test]
fn what_was_computed_before_a_preemption_is_found_again() {
    let config = EngineConfig { kv_bytes: 14 << 13, ..config() };
    let (engine, counts) = counted(model(), &config);
    let request = |seed| sampled(prompt(100, seed), 100, u64::from(seed)).ignoring_end();
    let gate = counts.gate.lock().unwrap();
    let streams: Vec<_> = (0..3).map(|seed| engine.submit(request(seed)).unwrap()).collect();
    drop(gate);
    streams.into_iter().for_each(|stream| {
        collect(stream);
    });
    assert!(counts.preemptions.load(Relaxed) > 0);
    assert_eq!(counts.prefill_tokens.load(Relaxed), 300, "each prompt token counts once");
    assert!(counts.recomputed_tokens.load(Relaxed) > 0);
}
