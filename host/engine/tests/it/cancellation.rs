//! A client that goes away costs nothing more.

use espalier_engine::EngineConfig;

use crate::fixture::{collect, config, engine, eventually, prompt, sampled};

#[test]
fn dropped_streams_free_their_blocks() {
    let engine = engine(&config());
    let mut streams: Vec<_> =
        (0..8).map(|seed| engine.submit(sampled(prompt(50, seed), 200, u64::from(seed))).unwrap()).collect();
    assert!(streams[0].blocking_recv().is_some());
    drop(streams);
    eventually("an idle engine", || {
        let status = engine.status();
        status.running == 0 && status.waiting == 0 && status.kv_used_blocks == 0
    });
    let outcome = collect(engine.submit(sampled(prompt(5, 1), 5, 1)).unwrap());
    assert!(outcome.usage.completion_tokens > 0);
}

#[test]
fn a_waiting_request_can_be_cancelled_too() {
    let engine = engine(&EngineConfig { max_sequences: 1, ..config() });
    let first = engine.submit(sampled(prompt(20, 1), 150, 1)).unwrap();
    let second = engine.submit(sampled(prompt(20, 2), 150, 2)).unwrap();
    drop(second);
    eventually("an empty queue", || engine.status().waiting == 0);
    collect(first);
}
