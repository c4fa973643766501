//! Tiny models with random weights, and short ways to run them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use espalier_engine::{
    Engine, EngineConfig, EngineModels, EngineObserver, Event, EventStream, FinishReason, GenerateRequest,
    Penalties, RequestRecord, SamplingParams, Silent, StepRecord, Usage, VariantSource,
};
use espalier_kernels::{CacheFormat, Cpu, Cuda, Device, Precision};
use espalier_model::{Checkpoint, Model, Tokenizer};
use espalier_model::{SynthShape, synthesize};
use serde_json::json;
use tempfile::TempDir;

/// Two threads, also where the machine has more: enough for every code path.
const THREADS: usize = 2;

static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| {
    let directory = TempDir::new().unwrap();
    let llama: SynthShape = serde_json::from_value(json!({
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 300,
        "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true
    }))
    .unwrap();
    let gpt_oss = SynthShape::default().with("model_type", "gpt_oss").with("num_hidden_layers", 2);
    let sliding = gpt_oss.with("sliding_window", 40);
    for (shape, name, seed) in [
        (&llama, "tiny", 1),
        (&llama, "tiny-other", 2),
        (&sliding, "sliding", 1),
        (&sliding, "sliding-other", 2),
    ] {
        synthesize(shape, &directory.path().join(name), seed).unwrap();
    }
    directory
});

pub(crate) type Loaded = (Arc<Model>, Arc<Tokenizer>);

/// Where the model is.
pub(crate) fn source() -> VariantSource {
    VariantSource::new(DIRECTORY.path().join("tiny"))
}

/// The processor, or the CUDA device that `ESPALIER_TEST_CUDA` says is there.
pub(crate) fn device() -> Device {
    let cpu = Cpu::new(THREADS).unwrap();
    match std::env::var_os("ESPALIER_TEST_CUDA") {
        Some(_) => Device::with_cuda(cpu, Cuda::open(0).unwrap()),
        None => cpu.into(),
    }
}

fn load(name: &str) -> Loaded {
    let checkpoint = Checkpoint::open(&DIRECTORY.path().join(name)).unwrap();
    let tokenizer = Arc::new(checkpoint.tokenizer().unwrap());
    (Arc::new(Model::load(&checkpoint, device()).unwrap()), tokenizer)
}

/// The model and its tokenizer.
pub(crate) fn model() -> Loaded {
    static LOADED: LazyLock<Loaded> = LazyLock::new(|| load("tiny"));
    LOADED.clone()
}

/// A small gpt-oss, in which a layer that slides over 40 tokens is followed by one that sees all.
pub(crate) fn sliding_model() -> Loaded {
    static LOADED: LazyLock<Loaded> = LazyLock::new(|| load("sliding"));
    LOADED.clone()
}

/// The same shape with other weights.
pub(crate) fn other_weights(loaded: &Loaded) -> Arc<Model> {
    static OTHERS: LazyLock<[Arc<Model>; 2]> =
        LazyLock::new(|| ["tiny-other", "sliding-other"].map(|name| load(name).0));
    let [tiny, sliding] = &*OTHERS;
    Arc::clone(if Arc::ptr_eq(&loaded.0, &model().0) { tiny } else { sliding })
}

/// Small limits on the exact path.
pub(crate) fn config() -> EngineConfig {
    EngineConfig {
        max_sequences: 8,
        max_step_tokens: 64,
        kv_bytes: 16 << 20,
        kv_format: CacheFormat::default(),
        max_model_len: Some(256),
        prefix_cache: true,
        speculative_tokens: 0,
        queue_limit: 64,
        precision: Precision::Exact,
    }
}

/// An engine with `config`.
pub(crate) fn engine(config: &EngineConfig) -> Engine {
    let (model, tokenizer) = model();
    Engine::start("tiny", EngineModels { model, tokenizer, draft: None }, config, Arc::new(Silent)).unwrap()
}

/// What the steps of an engine came to.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// While a test holds it, no step ends: what it submits meanwhile is there together for the next one.
    pub(crate) gate: Mutex<()>,
    pub(crate) prefill_tokens: AtomicUsize,
    pub(crate) recomputed_tokens: AtomicUsize,
    pub(crate) prefix_queries: AtomicUsize,
    pub(crate) prefix_hits: AtomicUsize,
    pub(crate) preemptions: AtomicUsize,
    pub(crate) steps: AtomicUsize,
    pub(crate) guessed_tokens: AtomicUsize,
    pub(crate) right_tokens: AtomicUsize,
}

impl EngineObserver for Counts {
    fn first_token(&self, _: Duration) {}
    fn next_token(&self, _: Duration) {}
    fn request(&self, _: &RequestRecord) {}

    fn step(&self, record: &StepRecord) {
        drop(self.gate.lock());
        for (counter, count) in [
            (&self.prefill_tokens, record.prefill_tokens),
            (&self.recomputed_tokens, record.recomputed_tokens),
            (&self.prefix_queries, record.prefix_queries),
            (&self.prefix_hits, record.prefix_hits),
            (&self.preemptions, record.preemptions),
            (&self.steps, 1),
            (&self.guessed_tokens, record.guessed_tokens),
            (&self.right_tokens, record.right_tokens),
        ] {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// An engine of `model`, and what counts its steps.
pub(crate) fn counted(loaded: Loaded, config: &EngineConfig) -> (Engine, Arc<Counts>) {
    start(loaded, None, config)
}

/// The same with a draft.
pub(crate) fn start(
    (model, tokenizer): Loaded,
    draft: Option<Arc<Model>>,
    config: &EngineConfig,
) -> (Engine, Arc<Counts>) {
    let counts = Arc::<Counts>::default();
    let models = EngineModels { model, tokenizer, draft };
    (Engine::start("tiny", models, config, counts.clone()).unwrap(), counts)
}

/// A prompt of `length` tokens that differs by `seed`.
pub(crate) fn prompt(length: usize, seed: u32) -> Vec<u32> {
    (0..length as u32).map(|i| (i * 37 + seed * 101) % 250).collect()
}

/// How tokens are drawn for a seed: odd seeds also have a bias and penalties, and cut the distribution in every way.
pub(crate) fn sampling(seed: u64) -> SamplingParams {
    let plain = SamplingParams::new(1.0, 0.95, Some(seed)).unwrap();
    if seed.is_multiple_of(2) {
        return plain;
    }
    let penalties = Penalties { repetition: 1.2, presence: 0.5, frequency: 0.25 };
    let cut = plain.with_top_k(50).with_min_p(0.01).unwrap();
    cut.with_penalties(penalties).unwrap().with_logit_bias(vec![(7, 2.0)]).unwrap()
}

/// A sampled request.
pub(crate) fn sampled(prompt: Vec<u32>, max_tokens: usize, seed: u64) -> GenerateRequest {
    GenerateRequest::new(prompt, Some(max_tokens), sampling(seed), Vec::new()).unwrap()
}

/// Everything a stream carried.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) text: String,
    pub(crate) reason: FinishReason,
    pub(crate) usage: Usage,
}

impl Outcome {
    /// What a client gets, however it came about.
    pub(crate) fn answer(self) -> (String, FinishReason, usize) {
        (self.text, self.reason, self.usage.completion_tokens)
    }
}

/// Reads a stream to its end.
pub(crate) fn collect(mut stream: EventStream) -> Outcome {
    let mut text = String::new();
    while let Some(event) = stream.blocking_recv() {
        match event {
            Event::Text { text: piece, .. } => text.push_str(&piece),
            Event::Prompt { .. } => {}
            Event::Finished { reason, usage, .. } => return Outcome { text, reason, usage },
            Event::Failed(message) | Event::GrammarTooComplex(message) => panic!("{message}"),
        }
    }
    panic!("the stream ended without an end event");
}

/// Waits until `condition` holds; fails after ten seconds.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} did not come true within ten seconds");
}
