//! The inference engine: it turns validated requests into streams of text.
//!
//! One [`Engine`] drives one loaded generation of one variant. It owns a thread, the key-value blocks and the scheduler;
//! callers hold a cheap handle and receive [`Event`]s. Sequences join and leave the batch at every step, prompts are
//! prefilled in chunks under a token budget, what is computed of a text is shared with others that begin like it, and a
//! caller that drops its stream frees its blocks in the next step.
//! The [`Registry`] knows which models, variants and generations are loaded and changes them without touching requests
//! in flight.
//!
//! HTTP, routing between variants and metrics formats are left to the server.

mod cache;
mod config;
mod constraint;
mod engine;
mod error;
mod event;
mod generation;
mod logit_adjustment;
mod logprobs;
mod observer;
mod registry;
mod request;
mod sampler;
mod sampling_params;
mod scheduler;
mod sequence;
mod speculation;
mod stop;
mod turnover;
mod worker;

pub use config::{DRAFT_TOKENS, EngineConfig};
pub use constraint::{Constraint, ConstraintCompiler, Grammar, Notation};
pub use engine::{Engine, EngineModels, EngineStatus};
pub use error::EngineError;
pub use event::{Event, EventStream, FinishReason, RequestTimes, Usage};
pub use generation::{Generation, GenerationId, VariantSource};
pub use logprobs::{MAX_TOP_LOGPROBS, TokenLogprobs};
pub use observer::{EngineObserver, RequestRecord, Silent, StepRecord};
pub use registry::Registry;
pub use request::{GenerateRequest, MAX_STOP_STRINGS, Satisfied};
pub use sampling_params::{Penalties, SamplingParams};
pub use stop::{Matched, StopMatcher};
