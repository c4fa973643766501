//! Holds a model of `data/tiny` to the logits that transformers computed for it in float32.

use std::path::Path;

use espalier_golden::distance::argmax;
use espalier_golden::{data, tensors::Tensors};
use espalier_kernels::{CacheFormat, CacheSize, Precision, SequenceSpan};
use espalier_model::{Checkpoint, ForwardBatch, LogitRows, Model, SequenceSize, export_gguf};
use tempfile::TempDir;

use crate::loaded;

const LIMIT: f32 = 1e-4;

/// Logits of every position, the tokens given in steps of `step` through a cache whose blocks lie in reverse order.
fn logits_in_steps(model: &Model, tokens: &[u32], step: usize) -> Vec<f32> {
    const BLOCK_TOKENS: usize = 7;
    let blocks = tokens.len().div_ceil(BLOCK_TOKENS);
    let sequence = SequenceSize { tokens: tokens.len(), step_tokens: step, block_tokens: BLOCK_TOKENS };
    let window_blocks = model.window_blocks(sequence);
    let size = CacheSize { blocks, window_blocks, block_tokens: BLOCK_TOKENS, format: CacheFormat::F32 };
    let mut cache = model.new_cache(size).unwrap();
    let reversed = |count: usize| (0..count as u32).rev().cycle().take(blocks).collect::<Vec<_>>();
    let (blocks, window_blocks) = (reversed(blocks), reversed(window_blocks));
    let mut all = Vec::new();
    for (index, tokens) in tokens.chunks(step).enumerate() {
        let span = SequenceSpan {
            blocks: &blocks,
            window_blocks: &window_blocks,
            first_position: index * step,
            queries: tokens.len(),
        };
        let batch = ForwardBatch { tokens, spans: &[span], decoding: 0, logits_for: LogitRows::All };
        all.extend(model.forward(&batch, &mut cache, Precision::Exact, None).unwrap());
    }
    all
}

/// Holds the model to the golden logits, in one pass and in steps of one and of 17 tokens. A position's error is the
/// largest difference, divided by the reference's largest logit there.
pub(crate) fn assert_like_transformers(name: &str) {
    assert_path_like_transformers(name, &data().join("tiny").join(name));
}

/// The same for the model's export to GGUF.
pub(crate) fn assert_gguf_like_transformers(name: &str) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.gguf");
    let checkpoint = Checkpoint::open(&data().join("tiny").join(name)).unwrap();
    export_gguf(&checkpoint, &path, None).unwrap();
    assert_path_like_transformers(name, &path);
}

fn assert_path_like_transformers(name: &str, path: &Path) {
    let golden = data().join("tiny").join(format!("{name}.logits.safetensors"));
    let golden = Tensors::read(&golden).unwrap();
    let tokens = golden.ids("tokens").unwrap();
    let expected = golden.floats("logits").unwrap();
    let vocabulary = golden.shape("logits").unwrap()[1];
    let (_, model) = loaded::load(path);
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
