//! Random models with structure that SmolLM2 lacks, against transformers in float32.

use crate::tiny_logits::{assert_gguf_like_transformers, assert_like_transformers};

#[test]
fn grouped_heads_odd_sizes_and_a_tied_head_in_float32() {
    assert_like_transformers("llama-tied-f32");
}

#[test]
fn llama3_rope_scaling_in_the_older_spelling_and_bfloat16_weights() {
    assert_like_transformers("llama-llama3-rope-bf16");
}

#[test]
fn heads_wider_than_the_hidden_size_and_float16_weights() {
    assert_like_transformers("llama-wide-heads-f16");
}

#[test]
fn qwen2_with_attention_biases() {
    assert_like_transformers("qwen2-bias-bf16");
}

#[test]
fn llama3_rope_scaling_with_a_tied_head() {
    assert_like_transformers("llama-llama3-rope-tied-bf16");
}

#[test]
fn qwen2_with_a_head_of_its_own() {
    assert_like_transformers("qwen2-untied-bf16");
}

#[test]
fn the_same_models_as_gguf() {
    for name in ["llama-llama3-rope-bf16", "llama-wide-heads-f16", "llama-tied-f32", "qwen2-bias-bf16"] {
        assert_gguf_like_transformers(name);
    }
}
