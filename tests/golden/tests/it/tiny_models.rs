//! Random models with structure that SmolLM2 lacks, against transformers in float32.

use espalier_golden::distance::argmax;
use espalier_golden::{data, tensors::Tensors};
use espalier_kernels::{Precision, SequenceSpan};
use espalier_model::{ForwardBatch, LogitRows, Model};

use crate::loaded;

const LIMIT: f32 = 1e-4;

/// Logits of every position, the tokens given in steps of `step` through a cache whose blocks lie in reverse order.
fn logits_in_steps(model: &Model, tokens: &[u32], step: usize) -> Vec<f32> {
    const BLOCK_TOKENS: usize = 7;
    let blocks: Vec<u32> = (0..tokens.len().div_ceil(BLOCK_TOKENS) as u32).rev().collect();
    let mut cache = model.new_cache(blocks.len(), BLOCK_TOKENS).unwrap();
    let mut all = Vec::new();
    for (index, tokens) in tokens.chunks(step).enumerate() {
        let span = SequenceSpan { blocks: &blocks, first_position: index * step, queries: tokens.len() };
        let batch = ForwardBatch { tokens, spans: &[span], logits_for: LogitRows::All };
        all.extend(model.forward(&batch, &mut cache, Precision::Exact, None).unwrap());
    }
    all
}

/// Holds the model to the golden logits, in one pass and in steps of one and of 17 tokens.
fn assert_like_transformers(name: &str) {
    let folder = data().join("tiny");
    let golden = Tensors::read(&folder.join(format!("{name}.logits.safetensors"))).unwrap();
    let tokens = golden.ids("tokens").unwrap();
    let expected = golden.floats("logits").unwrap();
    let vocabulary = golden.shape("logits").unwrap()[1];
    let (_, model) = loaded::load(&folder.join(name));
    let found = loaded::logits(&model, &tokens, Precision::Exact);
    assert_eq!(found.len(), tokens.len() * vocabulary);
    for step in [1, 17] {
        for (position, (whole, stepped)) in
            found.iter().zip(logits_in_steps(&model, &tokens, step)).enumerate()
        {
            let position = position / vocabulary;
            assert!(
                (whole - stepped).abs() <= 1e-4,
                "{name}, steps of {step}, position {position}: {stepped}, {whole}"
            );
        }
    }

    for (position, expected) in
        golden.ids("positions").unwrap().into_iter().zip(expected.chunks_exact(vocabulary))
    {
        let found = &found[position as usize * vocabulary..][..vocabulary];
        let scale = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let error = expected.iter().zip(found).fold(0.0_f32, |largest, (a, b)| largest.max((a - b).abs()));
        assert!(error <= LIMIT * scale, "{name}, position {position}: error {error} of {scale}");
        assert_eq!(argmax(found), argmax(expected), "{name}, position {position}");
    }
}

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
