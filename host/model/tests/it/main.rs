//! Checkpoints, tokenizers and templates through the crate's public interface.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod batches;
mod chat_templates;
mod conversion;
mod cuda;
mod damaged_files;
mod format_round_trips;
mod gpt_oss;
mod gpt_oss_gguf;
mod harmony_parsing;
mod harmony_rendering;
mod model;
mod model_directories;
mod probes;
mod smollm2;
mod synthetic_models;
mod tagged_answers;
mod uneven_layers;
mod wrong_inputs;
