//! A sequence's logits depend on nothing but the sequence: not on what else is in a batch, nor on how it is cut.

use espalier_kernels::{CacheFormat, CacheSize, Cpu, Precision};
use espalier_model::{
    Checkpoint, ForwardBatch, KeyValueCache, LogitRows, Model, SequenceBlocks, SequenceSize, SynthShape,
};
use serde_json::json;

use crate::model;

const BLOCK_TOKENS: usize = 8;

/// Layers that slide over 16 tokens in turn with layers that see all, and 4 of 8 experts for each token.
fn gpt_oss() -> Model {
    let shape = SynthShape::default().with("model_type", "gpt_oss").with("torch_dtype", "bfloat16");
    let shape = shape.with("head_dim", 32);
    let files = model::Model::new(&shape.with("quantization_config", json!({ "quant_method": "mxfp4" })));
    let checkpoint = Checkpoint::open(&files.hugging_face()).unwrap();
    Model::load(&checkpoint, Cpu::new(2).unwrap()).unwrap()
}

fn size(tokens: usize, step_tokens: usize) -> SequenceSize {
    SequenceSize { tokens, step_tokens, block_tokens: BLOCK_TOKENS }
}

fn tokens(length: usize, seed: u32) -> Vec<u32> {
    (0..length as u32).map(|index| (index * 37 + seed * 11 + index * index / 5) % 200).collect()
}

fn forward(model: &Model, cache: &mut KeyValueCache, parts: &[(&SequenceBlocks, &[u32], usize)]) -> Vec<f32> {
    let tokens: Vec<u32> = parts.iter().flat_map(|(_, tokens, _)| tokens.iter().copied()).collect();
    let spans: Vec<_> =
        parts.iter().map(|(blocks, tokens, first)| blocks.span(*first, tokens.len()).unwrap()).collect();
    let batch = ForwardBatch { tokens: &tokens, spans: &spans, decoding: 0, logits_for: LogitRows::All };
    model.forward(&batch, cache, Precision::Exact, None).unwrap()
}

/// The logits of one sequence, its tokens given in runs of `step`.
fn alone(model: &Model, tokens: &[u32], step: usize, format: CacheFormat) -> Vec<f32> {
    let (mut cache, blocks) = model.cache_for_one(size(tokens.len(), step), format).unwrap();
    let runs = tokens.chunks(step).enumerate();
    runs.flat_map(|(index, run)| forward(model, &mut cache, &[(&blocks, run, index * step)])).collect()
}

#[test]
fn a_long_prompt_gives_the_same_bits_however_it_is_cut() {
    let model = gpt_oss();
    let tokens = tokens(230, 1);
    for format in CacheFormat::ALL {
        let whole = alone(&model, &tokens, tokens.len(), format);
        for step in [1, 17, 64, 100] {
            assert!(alone(&model, &tokens, step, format) == whole, "in runs of {step}, {format}");
        }
    }
}

#[test]
fn sequences_of_a_batch_do_not_meet() {
    let model = gpt_oss();
    CacheFormat::ALL.iter().for_each(|format| batch_equals_alone(&model, *format));
}

fn batch_equals_alone(model: &Model, format: CacheFormat) {
    let texts = [tokens(150, 1), tokens(1, 2), tokens(90, 3)];
    let (mut cache, tables) = model.cache_for(3, size(160, 150), format).unwrap();
    let parts: Vec<_> =
        tables.iter().zip(&texts).map(|(blocks, text)| (blocks, text.as_slice(), 0)).collect();
    let together = forward(model, &mut cache, &parts);
    let apart: Vec<f32> = texts.iter().flat_map(|text| alone(model, text, text.len(), format)).collect();
    assert!(together == apart);
    // The next token of each, one step later.
    let next: Vec<_> = tables.iter().zip(&texts).map(|(blocks, text)| (blocks, [7], text.len())).collect();
    let parts: Vec<_> =
        next.iter().map(|(blocks, token, first)| (*blocks, token.as_slice(), *first)).collect();
    let together = forward(model, &mut cache, &parts);
    let vocabulary = model.spec().vocab_size;
    for (text, row) in texts.iter().zip(together.chunks_exact(vocabulary)) {
        let longer = [text.as_slice(), &[7]].concat();
        let expected = alone(model, &longer, longer.len(), format);
        assert!(row == &expected[expected.len() - vocabulary..], "after {} tokens", text.len());
    }
}

#[test]
fn the_fast_path_looks_at_a_tokens_place_and_not_at_its_company() {
    let model = gpt_oss();
    let (first, second) = (tokens(70, 1), tokens(41, 2));
    let (mut cache, tables) = model.cache_for(2, size(80, 80), CacheFormat::F16).unwrap();
    let mut run = |parts: &[(usize, &[u32], usize)], decoding: usize| {
        let tokens: Vec<u32> = parts.iter().flat_map(|(_, tokens, _)| tokens.iter().copied()).collect();
        let spans: Vec<_> = parts
            .iter()
            .map(|(table, tokens, first)| tables[*table].span(*first, tokens.len()).unwrap())
            .collect();
        let batch = ForwardBatch { tokens: &tokens, spans: &spans, decoding, logits_for: LogitRows::All };
        model.forward(&batch, &mut cache, Precision::Fast, None).unwrap()
    };
    let prompt = run(&[(0, &first, 0)], 0);
    let next = run(&[(0, &[7], 70)], 1);
    let other = run(&[(1, &second, 0)], 0);
    assert!(run(&[(0, &[7], 70), (1, &second, 0)], 1) == [next, other.clone()].concat());
    let cut = [run(&[(1, &second[..40], 0)], 0), run(&[(1, &second[40..], 40)], 0)].concat();
    assert!(cut == other, "a prompt's last token alone is still a prompt's");
    assert!(run(&[(1, &second, 0), (0, &first, 0)], 0) == [other, prompt].concat());
}

#[test]
fn windowed_layers_take_a_few_blocks_whatever_the_length() {
    let model = gpt_oss();
    let most = model.window_blocks(size(100_000, 64));
    assert_eq!(
        most,
        (16 + 64 - 2_usize).div_ceil(BLOCK_TOKENS) + 1,
        "a window, a step, and a block cut in two"
    );
    assert_eq!(model.window_blocks(size(20, 64)), 3, "no more than the sequence has");
    let format = CacheFormat::F16;
    let (cache, blocks) = model.cache_for_one(size(4000, 64), format).unwrap();
    assert!(blocks.span(0, 65).is_err(), "one token more than the blocks are made for");
    assert_eq!(
        cache.size(),
        CacheSize { blocks: 500, window_blocks: most, block_tokens: BLOCK_TOKENS, format }
    );
}
