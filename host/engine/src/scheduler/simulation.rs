//! The scheduler step by step, without a model: every sampled token is the same.

use std::sync::LazyLock;

use espalier_model::{Checkpoint, SynthShape, Tokenizer, synthesize};
use tokio::sync::mpsc::unbounded_channel;

use super::{Chunk, Scheduler, StepPlan};
use crate::config::Limits;
use crate::event::EventStream;
use crate::observer::Silent;
use crate::request::GenerateRequest;
use crate::sampling_params::SamplingParams;
use crate::sequence::Sequence;

const CONTEXT: usize = 2000;

/// Of a tiny model; the texts don't matter.
pub(crate) static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tiny");
    synthesize(&SynthShape::default().with("num_hidden_layers", 1), &path, 1).unwrap();
    Checkpoint::open(&path).unwrap().tokenizer().unwrap()
});

struct Simulation {
    limits: Limits,
    scheduler: Scheduler,
    streams: Vec<EventStream>,
}

impl Simulation {
    fn new(max_sequences: usize, max_step_tokens: usize, blocks: usize) -> Self {
        let max_model_len = CONTEXT;
        let limits =
            Limits { max_sequences, max_step_tokens, max_model_len, ..Limits::of_blocks(blocks, 0, None) };
        Self { scheduler: Scheduler::new(&limits), limits, streams: Vec::new() }
    }

    /// A request whose prompt nobody shares, unless `first` is the same. It is known by its number.
    fn submit(&mut self, first: u32, prompt: usize, output: usize, flow: &str, priority: i64) -> usize {
        let tokens = (0..prompt as u32).map(|index| first.wrapping_mul(7919) + index).collect();
        let request =
            GenerateRequest::new(tokens, Some(output), SamplingParams::greedy(), Vec::new()).unwrap();
        let request = request.with_flow(flow.into()).with_priority(priority).ignoring_end();
        let (sender, stream) = unbounded_channel();
        self.scheduler.enqueue(Sequence::new(request, &self.limits, &TOKENIZER, sender));
        self.streams.push(stream);
        self.streams.len() - 1
    }

    /// One step; returns what was planned, with the numbers of the requests in place of the indices.
    fn step(&mut self) -> StepPlan {
        self.scheduler.remove_ended();
        let mut plan = self.scheduler.plan();
        for chunk in &mut plan.chunks {
            let index = chunk.sequence;
            self.scheduler.computed(index, chunk.start + chunk.tokens);
            let sequence = &mut self.scheduler.running_mut()[index];
            chunk.sequence = sequence.arrival as usize;
            if sequence.pending() == 0 {
                sequence.advance(&[0.0, 1.0], &[], &Silent);
            }
        }
        self.scheduler.remove_ended();
        plan
    }

    /// Steps until a request gets tokens of one, itself included.
    fn steps_until(&mut self, request: usize) -> usize {
        for steps in 1..10_000 {
            if self.step().chunks.iter().any(|chunk| chunk.sequence == request) {
                return steps;
            }
        }
        panic!("request {request} was never served")
    }

    fn running(&self) -> Vec<usize> {
        let mut running: Vec<_> =
            self.scheduler.running().iter().map(|sequence| sequence.arrival as usize).collect();
        running.sort_unstable();
        running
    }
}

fn tokens_of(plan: &StepPlan, request: usize) -> usize {
    plan.chunks.iter().filter(|chunk| chunk.sequence == request).map(|chunk| chunk.tokens).sum()
}

#[test]
fn a_step_is_decoding_first_and_never_more_than_its_budget() {
    let mut simulation = Simulation::new(4, 50, 1000);
    let first = simulation.submit(1, 40, 30, "a", 0);
    simulation.step();
    let second = simulation.submit(2, 200, 5, "a", 0);
    let third = simulation.submit(3, 20, 5, "a", 0);
    let plan = simulation.step();
    let chunk = |sequence, start, tokens| Chunk { sequence, start, tokens, follows_prompt: tokens == 1 };
    assert_eq!(plan.chunks, [chunk(first, 40, 1), chunk(second, 0, 49)]);
    while !simulation.running().is_empty() {
        let plan = simulation.step();
        assert!(plan.chunks.iter().map(|chunk| chunk.tokens).sum::<usize>() <= 50);
    }
    assert_eq!(simulation.scheduler.waiting_count(), 0, "{third} is done too");
}

#[test]
fn a_hundred_requests_of_one_flow_hold_up_no_other() {
    let mut simulation = Simulation::new(4, 64, 1000);
    for request in 0..100 {
        simulation.submit(request, 100, 8, "many", 0);
    }
    for _ in 0..10 {
        simulation.step();
    }
    let single = simulation.submit(1000, 30, 8, "one", 0);
    let plan = simulation.step();
    assert_eq!((plan.preemptions, tokens_of(&plan, single)), (1, 30), "one of the four makes way at once");
    let second = simulation.submit(1001, 30, 8, "one", 0);
    let third = simulation.submit(1002, 30, 8, "other", 0);
    let plan = simulation.step();
    assert_eq!((tokens_of(&plan, second), tokens_of(&plan, third)), (0, 30), "one has its place already");
    simulation.steps_until(second);
    assert!(simulation.scheduler.waiting_count() > 85, "before what the others had queued");
    while !simulation.running().is_empty() {
        simulation.step();
    }
    assert_eq!((simulation.scheduler.waiting_count(), simulation.scheduler.blocks().used), (0, 0));
}

#[test]
fn a_flow_with_long_prompts_shares_the_step() {
    let mut simulation = Simulation::new(8, 64, 1000);
    for request in 0..4 {
        simulation.submit(request, 1500, 8, "many", 0);
    }
    simulation.step();
    let single = simulation.submit(1000, 60, 8, "one", 0);
    let first = [simulation.step(), simulation.step()].map(|plan| tokens_of(&plan, single));
    assert_eq!(first, [0, 60], "the two flows had the same, so the first came first once more");
}

#[test]
fn a_lower_priority_number_is_served_first_and_makes_others_wait_again() {
    let mut simulation = Simulation::new(2, 64, 1000);
    let running = [0, 1].map(|request| simulation.submit(request, 50, 100, "a", 5));
    let waiting = simulation.submit(2, 50, 20, "a", 5);
    simulation.step();
    simulation.step();
    let urgent = simulation.submit(3, 50, 20, "a", -1);
    let plan = simulation.step();
    assert_eq!((plan.preemptions, tokens_of(&plan, urgent)), (1, 50));
    assert_eq!(simulation.running(), [running[0], urgent], "the later of the two made way");
    simulation.steps_until(running[1]);
    assert!(!simulation.running().contains(&waiting), "it is still before what came after it");
    let background = simulation.submit(4, 50, 20, "b", 9);
    simulation.steps_until(waiting);
    assert!(!simulation.running().contains(&background));
}

#[test]
fn where_blocks_run_out_the_first_goes_on_and_the_last_waits_again() {
    // Room for 20 blocks; each would take 10 in the end.
    let mut simulation = Simulation::new(4, 200, 20);
    let requests = [0, 1, 2].map(|request| simulation.submit(request, 130, 180, "a", 0));
    let mut preempted = 0;
    let mut finished = Vec::new();
    let mut before = Vec::new();
    for _ in 0..2000 {
        let plan = simulation.step();
        preempted += plan.preemptions;
        for chunk in &plan.chunks {
            assert_eq!(chunk.follows_prompt, chunk.start >= 130);
            assert!(chunk.follows_prompt || chunk.end() <= 130, "{chunk:?} goes over the prompt's end");
        }
        let running = simulation.running();
        assert!(simulation.scheduler.blocks().used <= 20);
        let is_waiting =
            |request: &usize| simulation.scheduler.waiting.iter().any(|s| s.arrival as usize == *request);
        finished.extend(
            before.iter().copied().filter(|request| !running.contains(request) && !is_waiting(request)),
        );
        before = running;
    }
    assert_eq!(finished, requests, "in the order in which they came");
    assert!(preempted > 0);
    assert_eq!(simulation.scheduler.blocks().used, 0);
}

#[test]
fn who_waits_for_a_beginning_goes_on_when_nobody_computes_it() {
    let mut simulation = Simulation::new(4, 32, 1000);
    let leader = simulation.submit(1, 320, 5, "a", 0);
    let follower = simulation.submit(1, 320, 5, "a", 0);
    let other = simulation.submit(2, 32, 5, "b", 0);
    for computed in [leader, other] {
        let plan = simulation.step();
        assert_eq!((tokens_of(&plan, computed), tokens_of(&plan, follower)), (32, 0));
    }
    simulation.streams[leader].close();
    simulation.step();
    assert_eq!(simulation.running(), [follower, other], "one waited, the other wasn't held up by that");
    let urgent = simulation.submit(1, 320, 5, "a", -1);
    assert!(simulation.steps_until(urgent) <= 1, "it doesn't wait for one that ranks behind it");
}

#[test]
fn who_waits_for_a_beginning_finds_it() {
    let mut simulation = Simulation::new(4, 32, 1000);
    let requests = [0, 1, 2].map(|_| simulation.submit(1, 320, 5, "a", 0));
    let (mut hits, mut computed) = (0, 0);
    while simulation.scheduler.waiting_count() > 0 {
        let plan = simulation.step();
        hits += plan.prefix_hits;
        computed += requests.iter().map(|request| tokens_of(&plan, *request)).sum::<usize>();
    }
    assert_eq!(hits, 2 * 319, "all but the last token, whose logits are wanted");
    assert!(computed < 320 + 3 * 5, "{computed}");
}
