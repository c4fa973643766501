//! What the engine of one generation reports, under our names and vLLM's.
//!
//! The series of a generation are looked up once, when it is loaded; the engine's thread then only adds to them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use espalier_engine::{EngineObserver, RequestRecord, StepRecord};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};

use crate::error::ServerError;
use crate::metrics::build::Build;
use crate::metrics::definition as d;

/// The collectors that are labelled by generation.
#[derive(Debug)]
pub(super) struct Engines {
    requests: IntCounterVec,
    vllm_success: IntCounterVec,
    prompt_tokens: Both<IntCounterVec>,
    cached_tokens: IntCounterVec,
    recomputed_tokens: IntCounterVec,
    preemptions: Both<IntCounterVec>,
    guesses: Both<IntCounterVec>,
    guessed_tokens: Both<IntCounterVec>,
    right_tokens: Both<IntCounterVec>,
    vllm_prefix_queries: IntCounterVec,
    vllm_prefix_hits: IntCounterVec,
    generation_tokens: Both<IntCounterVec>,
    first_token: Both<HistogramVec>,
    inter_token: Both<HistogramVec>,
    request: Both<HistogramVec>,
    queue: Both<HistogramVec>,
    prefill: Both<HistogramVec>,
    decode: Both<HistogramVec>,
    request_prompt: Both<HistogramVec>,
    request_generation: Both<HistogramVec>,
    step: HistogramVec,
    vllm_inference: HistogramVec,
    vllm_max_tokens: HistogramVec,
    vllm_n: HistogramVec,
    vllm_iteration: HistogramVec,
    /// By the number of the generation.
    paces: Mutex<HashMap<u64, Arc<Pace>>>,
}

/// The recent time between tokens: a mean in which each token weighs a twentieth, as the bits of milliseconds in f32.
#[derive(Debug, Default)]
struct Pace(AtomicU32);

impl Pace {
    const WEIGHT: f32 = 0.05;

    /// Only the engine's own thread calls this, so load and store need not be one step.
    fn observe(&self, gap: Duration) {
        let (mean, new) = (f32::from_bits(self.0.load(Ordering::Relaxed)), gap.as_secs_f32() * 1e3);
        let mean = if mean > 0.0 { mean + Self::WEIGHT * (new - mean) } else { new };
        self.0.store(mean.to_bits(), Ordering::Relaxed);
    }

    fn milliseconds(&self) -> Option<f32> {
        Some(f32::from_bits(self.0.load(Ordering::Relaxed))).filter(|mean| *mean > 0.0)
    }
}

/// One measurement under two names.
#[derive(Debug)]
struct Both<T> {
    ours: T,
    theirs: T,
}

impl Both<HistogramVec> {
    fn series(&self, ours: &[&str; 3], theirs: &[&str; 2]) -> Both<Histogram> {
        Both { ours: self.ours.with_label_values(ours), theirs: self.theirs.with_label_values(theirs) }
    }
}

impl Both<IntCounterVec> {
    fn series(&self, ours: &[&str; 3], theirs: &[&str; 2]) -> Both<IntCounter> {
        Both { ours: self.ours.with_label_values(ours), theirs: self.theirs.with_label_values(theirs) }
    }
}

impl Both<Histogram> {
    fn observe(&self, value: f64) {
        self.ours.observe(value);
        self.theirs.observe(value);
    }

    fn seconds(&self, duration: Duration) {
        self.observe(duration.as_secs_f64());
    }
}

impl Both<IntCounter> {
    fn add(&self, count: usize) {
        self.ours.inc_by(count as u64);
        self.theirs.inc_by(count as u64);
    }
}

impl Engines {
    pub(super) fn new(build: &Build) -> Result<Self, ServerError> {
        let counters = |ours, theirs| {
            Ok::<_, ServerError>(Both { ours: build.counter(ours)?, theirs: build.counter(theirs)? })
        };
        let histograms = |ours, theirs| {
            Ok::<_, ServerError>(Both { ours: build.histogram(ours)?, theirs: build.histogram(theirs)? })
        };
        Ok(Self {
            requests: build.counter(&d::REQUESTS)?,
            vllm_success: build.counter(&d::VLLM_SUCCESS)?,
            prompt_tokens: counters(&d::PROMPT_TOKENS, &d::VLLM_PROMPT_TOKENS)?,
            cached_tokens: build.counter(&d::CACHED_TOKENS)?,
            recomputed_tokens: build.counter(&d::RECOMPUTED_TOKENS)?,
            preemptions: counters(&d::PREEMPTIONS, &d::VLLM_PREEMPTIONS)?,
            guesses: counters(&d::GUESSES, &d::VLLM_DRAFTS)?,
            guessed_tokens: counters(&d::GUESSED_TOKENS, &d::VLLM_DRAFT_TOKENS)?,
            right_tokens: counters(&d::RIGHT_TOKENS, &d::VLLM_ACCEPTED_TOKENS)?,
            vllm_prefix_queries: build.counter(&d::VLLM_PREFIX_QUERIES)?,
            vllm_prefix_hits: build.counter(&d::VLLM_PREFIX_HITS)?,
            generation_tokens: counters(&d::GENERATION_TOKENS, &d::VLLM_GENERATION_TOKENS)?,
            first_token: histograms(&d::FIRST_TOKEN_SECONDS, &d::VLLM_FIRST_TOKEN)?,
            inter_token: histograms(&d::INTER_TOKEN_SECONDS, &d::VLLM_INTER_TOKEN)?,
            request: histograms(&d::REQUEST_SECONDS, &d::VLLM_E2E)?,
            queue: histograms(&d::QUEUE_SECONDS, &d::VLLM_QUEUE)?,
            prefill: histograms(&d::PREFILL_SECONDS, &d::VLLM_PREFILL)?,
            decode: histograms(&d::DECODE_SECONDS, &d::VLLM_DECODE)?,
            request_prompt: histograms(&d::REQUEST_PROMPT_TOKENS, &d::VLLM_REQUEST_PROMPT)?,
            request_generation: histograms(&d::REQUEST_GENERATION_TOKENS, &d::VLLM_REQUEST_GENERATION)?,
            step: build.histogram(&d::STEP_SECONDS)?,
            vllm_inference: build.histogram(&d::VLLM_INFERENCE)?,
            vllm_max_tokens: build.histogram(&d::VLLM_MAX_TOKENS)?,
            vllm_n: build.histogram(&d::VLLM_N)?,
            vllm_iteration: build.histogram(&d::VLLM_ITERATION)?,
            paces: Mutex::default(),
        })
    }

    pub(super) fn milliseconds_per_token(&self, number: u64) -> Option<f32> {
        self.paces.lock().unwrap_or_else(PoisonError::into_inner).get(&number)?.milliseconds()
    }

    pub(super) fn observer(&self, model: &str, variant: &str, number: u64) -> GenerationObserver {
        let pace = Arc::<Pace>::default();
        self.paces.lock().unwrap_or_else(PoisonError::into_inner).insert(number, Arc::clone(&pace));
        let number = number.to_string();
        let ours = [model, variant, number.as_str()];
        let theirs = [model, number.as_str()];
        let finished = |reason| self.requests.with_label_values(&[model, variant, number.as_str(), reason]);
        let success = |reason| self.vllm_success.with_label_values(&[model, number.as_str(), reason]);
        GenerationObserver {
            stop: Both { ours: finished("stop"), theirs: success("stop") },
            length: Both { ours: finished("length"), theirs: success("length") },
            abort: Both { ours: finished("abort"), theirs: success("abort") },
            prompt_tokens: self.prompt_tokens.series(&ours, &theirs),
            cached_tokens: self.cached_tokens.with_label_values(&ours),
            recomputed_tokens: self.recomputed_tokens.with_label_values(&ours),
            preemptions: self.preemptions.series(&ours, &theirs),
            guesses: self.guesses.series(&ours, &theirs),
            guessed_tokens: self.guessed_tokens.series(&ours, &theirs),
            right_tokens: self.right_tokens.series(&ours, &theirs),
            prefix_queries: self.vllm_prefix_queries.with_label_values(&theirs),
            prefix_hits: self.vllm_prefix_hits.with_label_values(&theirs),
            generation_tokens: self.generation_tokens.series(&ours, &theirs),
            first_token: self.first_token.series(&ours, &theirs),
            inter_token: self.inter_token.series(&ours, &theirs),
            request: self.request.series(&ours, &theirs),
            queue: self.queue.series(&ours, &theirs),
            prefill: self.prefill.series(&ours, &theirs),
            decode: self.decode.series(&ours, &theirs),
            request_prompt: self.request_prompt.series(&ours, &theirs),
            request_generation: self.request_generation.series(&ours, &theirs),
            step: self.step.with_label_values(&ours),
            inference: self.vllm_inference.with_label_values(&theirs),
            max_tokens: self.vllm_max_tokens.with_label_values(&theirs),
            n: self.vllm_n.with_label_values(&theirs),
            iteration: self.vllm_iteration.with_label_values(&theirs),
            pace,
        }
    }
}

/// Receives the measurements of one generation.
pub struct GenerationObserver {
    stop: Both<IntCounter>,
    length: Both<IntCounter>,
    abort: Both<IntCounter>,
    prompt_tokens: Both<IntCounter>,
    cached_tokens: IntCounter,
    recomputed_tokens: IntCounter,
    preemptions: Both<IntCounter>,
    guesses: Both<IntCounter>,
    guessed_tokens: Both<IntCounter>,
    right_tokens: Both<IntCounter>,
    prefix_queries: IntCounter,
    prefix_hits: IntCounter,
    generation_tokens: Both<IntCounter>,
    first_token: Both<Histogram>,
    inter_token: Both<Histogram>,
    request: Both<Histogram>,
    queue: Both<Histogram>,
    prefill: Both<Histogram>,
    decode: Both<Histogram>,
    request_prompt: Both<Histogram>,
    request_generation: Both<Histogram>,
    step: Histogram,
    inference: Histogram,
    max_tokens: Histogram,
    n: Histogram,
    iteration: Histogram,
    pace: Arc<Pace>,
}

impl EngineObserver for GenerationObserver {
    fn first_token(&self, since_arrival: Duration) {
        self.first_token.seconds(since_arrival);
        self.generation_tokens.add(1);
    }

    fn next_token(&self, gap: Duration) {
        self.inter_token.seconds(gap);
        self.pace.observe(gap);
        self.generation_tokens.add(1);
    }

    #[expect(clippy::cast_precision_loss, reason = "token counts far below 2^53")]
    fn request(&self, record: &RequestRecord) {
        match record.finish.map(espalier_engine::FinishReason::name) {
            Some("stop") => self.stop.add(1),
            Some(_) => self.length.add(1),
            None => self.abort.add(1),
        }
        self.request.seconds(record.total);
        self.queue.seconds(record.queued);
        self.prefill.seconds(record.prefill);
        self.decode.seconds(record.decode);
        self.inference.observe((record.prefill + record.decode).as_secs_f64());
        self.request_prompt.observe(record.usage.prompt_tokens as f64);
        self.request_generation.observe(record.usage.completion_tokens as f64);
        self.max_tokens.observe(record.max_tokens as f64);
        self.n.observe(1.0);
    }

    #[expect(clippy::cast_precision_loss, reason = "token counts far below 2^53")]
    fn step(&self, record: &StepRecord) {
        self.prompt_tokens.ours.inc_by(record.prefill_tokens as u64);
        // vLLM counts whole prompts, whatever of them was cached.
        self.prompt_tokens.theirs.inc_by((record.prefill_tokens + record.prefix_hits) as u64);
        self.cached_tokens.inc_by(record.prefix_hits as u64);
        self.recomputed_tokens.inc_by(record.recomputed_tokens as u64);
        self.preemptions.add(record.preemptions);
        self.guesses.add(record.guesses);
        self.guessed_tokens.add(record.guessed_tokens);
        self.right_tokens.add(record.right_tokens);
        self.prefix_queries.inc_by(record.prefix_queries as u64);
        self.prefix_hits.inc_by(record.prefix_hits as u64);
        self.step.observe(record.duration.as_secs_f64());
        self.iteration
            .observe((record.prefill_tokens + record.recomputed_tokens + record.decode_tokens) as f64);
    }
}
