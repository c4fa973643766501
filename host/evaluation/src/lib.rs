//! Measuring models: quality by metric components, speed, memory and agreement with a baseline, and the report.
//!
//! A metric component asks for log-probabilities of windows of a text and gets them from a [`ModelScorer`], by the exact
//! path of the forward pass; speed is measured on the path that serves requests. [`evaluate()`] runs all of it for one
//! model or several and returns a [`Report`] with one row each.
//!
//! The room also tells components what a model looks like ([`model_facts`]), because it is the lowest one that knows
//! both.

mod agreement;
mod error;
mod evaluate;
mod facts;
mod memory;
mod report;
mod scorer;
mod text;
mod timing;

pub use agreement::{Agreement, AgreementRequest, measure_agreement};
pub use error::EvaluationError;
pub use evaluate::{EvaluationRequest, Step, Subject, evaluate};
pub use facts::{model_facts, unit_parameters};
pub use memory::{Residency, bytes_on_disk, residency, resident_bytes};
pub use report::{Report, Row};
pub use scorer::ModelScorer;
pub use text::{EvaluationText, TextRecord};
pub use timing::{Timing, TimingRequest, measure_timing};
