//! The room for training: gradients, LoRA, distillation and from-scratch training.
//!
//! It holds what changes weights by learning; what changes them by cutting is the pruning room's. [`Network`] is a model
//! with gradients, made from any checkpoint.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod batch;
mod error;
mod gradients;
mod network;
mod objective;
mod operation;
mod optimizer;
mod parameters;
mod random;
mod schedule;
mod sum;
mod teacher;

pub use batch::Batch;
pub use error::TrainingError;
pub use gradients::{ActivationGradients, Gradients, PassOptions};
pub use network::{Adapter, AdapterShape, AdapterTarget, Network};
pub use objective::{Distillation, Objective};
pub use optimizer::{AdamW, AdamWSettings};
pub use parameters::{Parameter, Parameters, Trainable};
pub use schedule::Schedule;
pub use teacher::TeacherOutput;
