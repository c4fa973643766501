//! Many requests of every kind, and nothing is left of them.

use std::collections::VecDeque;

use espalier_engine::{Engine, EngineConfig, Event, EventStream, GenerateRequest};
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};

use crate::fixture::{
    Loaded, collect, config, counted, eventually, model, prompt, sampled, sampling, sliding_model,
};

/// Requests that are under way at once.
const AT_ONCE: usize = 60;

struct Random(Pcg64Mcg);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        (self.0.next_u64() >> 8) % limit
    }

    fn request(&mut self) -> GenerateRequest {
        let tokens = prompt(self.below(120) as usize + 1, self.below(40) as u32);
        let stop = if self.below(3) == 0 { vec!["e".to_owned(), "\u{1}".to_owned()] } else { Vec::new() };
        let max_tokens = self.below(40) as usize + 1;
        let request = GenerateRequest::new(tokens, Some(max_tokens), sampling(self.below(9)), stop).unwrap();
        let request = request.with_priority(self.below(3) as i64).with_flow(self.below(5).to_string().into());
        match self.below(10) {
            0 => request.with_logprobs(1).unwrap().with_prompt_logprobs(),
            1 => request.with_cache_salt(self.below(2).to_string().into()),
            _ => request,
        }
    }
}

/// Reads a stream to its end, or drops it after so many events.
fn read(mut stream: EventStream, events: u64) {
    for _ in 0..events {
        match stream.blocking_recv() {
            Some(Event::Finished { .. }) => return,
            Some(Event::Failed(message)) => panic!("{message}"),
            Some(_) => {}
            None => panic!("the stream ended without an end event"),
        }
    }
}

fn run(engine: &Engine, requests: usize, random: &mut Random) {
    let mut streams = VecDeque::new();
    for _ in 0..requests {
        streams.push_back(engine.submit(random.request()).unwrap());
        if streams.len() >= AT_ONCE {
            let cancelled = random.below(4) == 0;
            let events = if cancelled { random.below(5) } else { u64::MAX };
            streams.pop_front().into_iter().for_each(|stream| read(stream, events));
        }
    }
    streams.into_iter().for_each(|stream| read(stream, u64::MAX));
}

/// Resident memory in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Returns by how much memory grew in the second half.
fn nothing_is_left(loaded: Loaded, kv_bytes: u64, requests: usize) -> usize {
    // Little memory: blocks are given up and given away all the time.
    let (engine, counts) = counted(loaded, &EngineConfig { kv_bytes, ..config() });
    let probe = || collect(engine.submit(sampled(prompt(90, 3), 40, 5)).unwrap()).answer();
    let before = probe();
    let mut random = Random(Pcg64Mcg::seed_from_u64(11));
    run(&engine, requests / 2, &mut random);
    let half = resident();
    run(&engine, requests / 2, &mut random);
    eventually("an engine without a used block", || {
        let status = engine.status();
        (status.running, status.waiting, status.kv_used_blocks) == (0, 0, 0)
    });
    assert!(engine.status().kv_cached_blocks <= engine.status().kv_blocks);
    assert!(probe() == before, "what a request is answered has changed");
    assert!(counts.preemptions.load(std::sync::atomic::Ordering::Relaxed) > 0);
    resident().saturating_sub(half)
}

#[test]
fn nothing_is_left_of_a_thousand_requests() {
    nothing_is_left(model(), 12 << 13, 1000);
    nothing_is_left(sliding_model(), 18 << 12, 500);
}

#[test]
#[ignore = "measures the memory of the whole process: `cargo xtask test` runs it alone"]
fn nothing_is_left_of_ten_thousand_requests() {
    let grown = nothing_is_left(model(), 12 << 13, 10_000);
    assert!(grown < 2 << 20, "{grown} bytes more after the second 5,000");
}
