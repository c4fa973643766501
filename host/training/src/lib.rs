//! The room for training: gradients, LoRA, distillation and from-scratch training.
//!
//! It holds what changes weights by learning; what changes them by cutting is the pruning room's. [`Network`] is a model
//! with gradients, made from any checkpoint.

mod adapter_file;
mod batch;
mod cancellation;
mod configuration;
mod error;
mod finished;
mod gradient_probes;
mod gradient_sum;
mod gradients;
mod network;
mod objective;
mod operation;
mod optimizer;
mod output;
mod parameters;
mod random;
mod run;
mod run_state;
mod schedule;
mod scratch;
mod sum;
mod teacher;
mod tensor_file;
mod toml_place;
mod vocabulary;
mod windows;

pub use adapter_file::write_peft;
pub use batch::Batch;
pub use cancellation::Cancellation;
pub use configuration::{Configuration, Method, NewModel, TrainingPrecision};
pub use error::TrainingError;
pub use finished::FinishedTraining;
pub use gradient_probes::{FFN_ACTIVATION_GRADIENT, HEAD_OUTPUT_GRADIENT, LayerGradients, WindowGradients};
pub use gradients::{Gradients, PassOptions};
pub use network::{Adapter, AdapterShape, AdapterTarget, Network};
pub use objective::{Distillation, Objective};
pub use optimizer::{AdamW, AdamWSettings};
pub use output::{OutputFormats, TrainedModel, rounded};
pub use parameters::{Parameter, Parameters, Trainable};
pub use run::{ProgressSink, TrainingProgress, TrainingSummary, train};
pub use schedule::Schedule;
pub use teacher::TeacherOutput;
pub use toml_place::TomlText;
pub use vocabulary::learn_vocabulary;
pub use windows::Windows;
