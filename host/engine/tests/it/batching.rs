//! What else is in the batch changes nothing.

use espalier_engine::EngineConfig;

use crate::fixture::{collect, config, engine, eventually, prompt, sampled};

#[test]
fn output_is_the_same_alone_and_among_others() {
    let lengths = [1, 5, 33, 64, 100, 7, 150, 20];
    let requests = |seed: usize| sampled(prompt(lengths[seed], seed as u32), 40 + seed, seed as u64);
    let alone: Vec<_> =
        (0..lengths.len()).map(|seed| collect(engine(&config()).submit(requests(seed)).unwrap())).collect();
    let shared = engine(&config());
    let streams: Vec<_> = (0..lengths.len()).map(|seed| shared.submit(requests(seed)).unwrap()).collect();
    let together: Vec<_> = streams.into_iter().map(collect).collect();
    assert_eq!(alone, together);
}

#[test]
fn output_is_the_same_whatever_the_chunk_of_a_prefill() {
    let run = |max_step_tokens| {
        let config = EngineConfig { max_step_tokens, max_sequences: 1, ..config() };
        collect(engine(&config).submit(sampled(prompt(130, 3), 30, 9)).unwrap())
    };
    let whole = run(512);
    for step_tokens in [1, 17, 64] {
        assert_eq!(run(step_tokens), whole, "chunks of {step_tokens}");
    }
}

#[test]
fn more_requests_than_places_all_finish() {
    let engine = engine(&EngineConfig { max_sequences: 2, ..config() });
    let streams: Vec<_> =
        (0..12).map(|seed| engine.submit(sampled(prompt(9, seed), 12, u64::from(seed))).unwrap()).collect();
    for stream in streams {
        assert!(collect(stream).usage.completion_tokens <= 12);
    }
    eventually("an idle engine", || {
        let status = engine.status();
        (status.waiting, status.running) == (0, 0)
    });
}
