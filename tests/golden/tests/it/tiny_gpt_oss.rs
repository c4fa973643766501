//! Random gpt-oss models, in each way of storing the experts, against transformers in float32.

use crate::tiny_logits::{assert_gguf_like_transformers, assert_like_transformers};

#[test]
fn experts_in_bfloat16_and_odd_sizes() {
    assert_like_transformers("gpt-oss-bf16");
    assert_gguf_like_transformers("gpt-oss-bf16");
}

#[test]
fn experts_in_float32() {
    assert_like_transformers("gpt-oss-f32");
}

#[test]
fn experts_in_mxfp4() {
    assert_like_transformers("gpt-oss-mxfp4");
    assert_gguf_like_transformers("gpt-oss-mxfp4");
}

#[test]
fn experts_in_mxfp4_and_odd_counts() {
    assert_like_transformers("gpt-oss-mxfp4-odd");
    assert_gguf_like_transformers("gpt-oss-mxfp4-odd");
}
