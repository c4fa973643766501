//! Espalier held to the golden files of other programs.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod loaded;
mod smollm2_greedy;
mod smollm2_llama_cpp;
mod smollm2_logits;
mod smollm2_tokenizer;
mod text_metrics;
mod tiny_gpt_oss;
mod tiny_logits;
mod tiny_models;
