//! Measuring models: quality by metric components, speed and memory, and the report.
//!
//! A metric component asks for log-probabilities of windows of a text and gets them from a [`ModelScorer`]; for answers to
//! samples and continuations, which a [`ModelGenerator`] writes; and for a [`ModelComparison`] with the baseline. All three
//! take the exact path of the forward pass; speed is measured on the path that serves requests. [`evaluate()`] runs all of
//! it for one model or several and returns a [`Report`] with one row each.
//!
//! The room also tells components what a model looks like ([`model_facts`]), because it is the lowest one that knows
//! both.

mod comparison;
mod data;
mod error;
mod evaluate;
mod facts;
mod generator;
mod hidden_states;
mod logits;
mod memory;
mod report;
mod samples;
mod scorer;
mod subject;
mod text;
mod timing;
mod work;

pub use comparison::ModelComparison;
pub use data::EvaluationData;
pub use error::EvaluationError;
pub use evaluate::{EvaluationRequest, Step, evaluate};
pub use facts::{model_facts, unit_parameters};
pub use generator::ModelGenerator;
pub use logits::log_probability;
pub use memory::{Residency, bytes_on_disk, residency, resident_bytes};
pub use report::{Language, Report, Row, bilingual_page, escape};
pub use scorer::ModelScorer;
pub use subject::Subject;
pub use text::{EvaluationText, TextRecord};
pub use timing::{Timing, TimingRequest, measure_timing};
pub use work::Work;
