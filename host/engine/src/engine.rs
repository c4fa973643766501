//! The handle of one running engine.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use espalier_model::{Model, Tokenizer};
use tokio::sync::mpsc::unbounded_channel;

use crate::cache::BlockCounts;
use crate::config::{BLOCK_TOKENS, EngineConfig, Limits};
use crate::error::EngineError;
use crate::event::EventStream;
use crate::observer::EngineObserver;
use crate::request::GenerateRequest;
use crate::sequence::Sequence;
use crate::speculation::Speculation;
use crate::worker::Worker;

/// What an engine runs.
#[derive(Clone)]
pub struct EngineModels {
    /// The model that answers.
    pub model: Arc<Model>,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// A smaller model with the same vocabulary that guesses what it will answer.
    pub draft: Option<Arc<Model>>,
}

/// A running engine. The last clone's drop lets the thread finish what it has and end.
#[derive(Clone)]
pub struct Engine {
    name: Arc<str>,
    limits: Limits,
    vocab_size: usize,
    kv_bytes: usize,
    tokenizer: Arc<Tokenizer>,
    shared: Arc<Shared>,
    arrivals: Arc<Mutex<Option<Sender<Sequence>>>>,
}

/// How busy an engine is.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineStatus {
    /// Sequences in the batch.
    pub running: usize,
    /// Requests that wait for a place.
    pub waiting: usize,
    /// Key-value blocks in use.
    pub kv_used_blocks: usize,
    /// Key-value blocks that nobody uses and that hold what may be wanted again.
    pub kv_cached_blocks: usize,
    /// Key-value blocks that there are.
    pub kv_blocks: usize,
    /// Whether new requests are refused.
    pub draining: bool,
}

/// What the handle and the thread both see.
#[derive(Default)]
pub(crate) struct Shared {
    /// Requests that were submitted and that the thread has not yet taken out of the channel or out of the queue.
    waiting: AtomicUsize,
    submitted: AtomicUsize,
    running: AtomicUsize,
    /// Nanoseconds; 0 while it isn't known.
    turnover: AtomicU64,
    kv_used: AtomicUsize,
    kv_cached: AtomicUsize,
    kv_total: AtomicUsize,
    draining: AtomicBool,
}

impl Shared {
    /// The thread's report after it took arrivals: `submitted` counts what it has not seen yet.
    pub(crate) fn publish(&self, running: usize, waiting: usize, blocks: BlockCounts) {
        self.running.store(running, Ordering::Relaxed);
        self.waiting.store(waiting, Ordering::Relaxed);
        self.kv_used.store(blocks.used, Ordering::Relaxed);
        self.kv_cached.store(blocks.cached, Ordering::Relaxed);
        self.kv_total.store(blocks.total, Ordering::Relaxed);
    }

    /// About how long it takes until a request leaves.
    pub(crate) fn set_turnover(&self, interval: Option<Duration>) {
        let nanoseconds =
            interval.map_or(0, |interval| u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX));
        self.turnover.store(nanoseconds, Ordering::Relaxed);
    }

    fn turnover(&self) -> Option<Duration> {
        Some(self.turnover.load(Ordering::Relaxed)).filter(|known| *known > 0).map(Duration::from_nanos)
    }

    /// The thread took one request out of the channel.
    pub(crate) fn received(&self) {
        self.submitted.fetch_sub(1, Ordering::AcqRel);
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }
}

impl Engine {
    /// Starts an engine's thread. `name` identifies the generation in errors and logs.
    ///
    /// # Errors
    /// A context that doesn't fit the budget, a draft with another vocabulary, a thread that can't be started.
    pub fn start(
        name: &str,
        models: EngineModels,
        config: &EngineConfig,
        observer: Arc<dyn EngineObserver>,
    ) -> Result<Self, EngineError> {
        let EngineModels { model, tokenizer, draft } = models;
        let (limits, draft_limits) = config.limits_with_draft(&model, draft.as_deref())?;
        let cache = model.new_cache(limits.cache)?;
        let speculation = Speculation::new(draft.zip(draft_limits))?;
        let kv_bytes = cache.bytes() + speculation.kv_bytes();
        tracing::info!(
            engine = name,
            budget = config.kv_bytes,
            bytes = kv_bytes,
            blocks = limits.cache.blocks,
            window_blocks = limits.cache.window_blocks,
            block_tokens = BLOCK_TOKENS,
            format = %limits.cache.format,
            "key-value cache reserved"
        );
        let vocab_size = model.spec().vocab_size;
        let shared = Arc::new(Shared::default());
        let (sender, receiver) = channel();
        let worker =
            Worker::new(model, cache, speculation, limits.clone(), Arc::clone(&shared), observer, receiver);
        thread::Builder::new()
            .name(format!("engine {name}"))
            .spawn(move || worker.run())
            .map_err(EngineError::Thread)?;
        let arrivals = Arc::new(Mutex::new(Some(sender)));
        Ok(Self { name: name.into(), limits, vocab_size, kv_bytes, tokenizer, shared, arrivals })
    }

    /// Queues a request.
    ///
    /// # Errors
    /// A full queue, a prompt as long as the context or longer, a bias for a token that isn't there, an engine that
    /// drains.
    pub fn submit(&self, request: GenerateRequest) -> Result<EventStream, EngineError> {
        let limit = self.limits.max_model_len;
        if request.prompt.len() >= limit {
            return Err(EngineError::PromptTooLong { found: request.prompt.len(), limit });
        }
        let mut biased = request.sampling.logit_bias().iter();
        if let Some((token, _)) = biased.find(|(token, _)| *token as usize >= self.vocab_size) {
            return Err(EngineError::InvalidParameter {
                field: "logit_bias",
                found: format!("token id {token}"),
                expected: "ids of the model's vocabulary",
            });
        }
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(arrivals) = arrivals.as_ref() else {
            return Err(self.draining());
        };
        let pending =
            self.shared.submitted.load(Ordering::Acquire) + self.shared.waiting.load(Ordering::Relaxed);
        if pending >= self.limits.queue_limit {
            let turnover = self.shared.turnover();
            return Err(EngineError::QueueFull { limit: self.limits.queue_limit, turnover });
        }
        let (sender, stream) = unbounded_channel();
        self.shared.submitted.fetch_add(1, Ordering::AcqRel);
        arrivals
            .send(Sequence::new(request, &self.limits, &self.tokenizer, sender))
            .map_err(|_| self.draining())?;
        Ok(stream)
    }

    /// Bytes reserved for keys and values.
    pub fn kv_bytes(&self) -> usize {
        self.kv_bytes
    }

    /// How busy the engine is now.
    pub fn status(&self) -> EngineStatus {
        let load = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        EngineStatus {
            running: load(&self.shared.running),
            waiting: load(&self.shared.submitted) + load(&self.shared.waiting),
            kv_used_blocks: load(&self.shared.kv_used),
            kv_cached_blocks: load(&self.shared.kv_cached),
            kv_blocks: load(&self.shared.kv_total),
            draining: self.shared.draining.load(Ordering::Relaxed),
        }
    }

    /// Whether a request that came now would be queued.
    pub fn accepts(&self) -> bool {
        let status = self.status();
        !status.draining && status.waiting < self.limits.queue_limit
    }

    /// Refuses new requests from now on; those that were accepted finish, then the thread ends.
    pub fn drain(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Longest prompt plus completion.
    pub fn max_model_len(&self) -> usize {
        self.limits.max_model_len
    }

    /// Positions per key-value block.
    pub const fn block_tokens(&self) -> usize {
        BLOCK_TOKENS
    }

    fn draining(&self) -> EngineError {
        EngineError::Draining { generation: self.name.to_string() }
    }
}
