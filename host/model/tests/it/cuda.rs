//! The forward pass on a CUDA device, real or simulated, against the processor's.
//!
//! Left out where nobody says that there is one (`ESPALIER_TEST_CUDA`), as one does on a machine with a device.

use std::collections::HashMap;

use espalier_kernels::{CacheFormat, Cpu, Cuda, Device, Precision};
use espalier_model::{
    Architecture, Checkpoint, ForwardBatch, KeyValueCache, LogitRows, Model, Probe, ProbeSink,
    SequenceBlocks, SequenceSize, SynthShape,
};
use serde_json::json;

use crate::model;

/// How far logits may be from the exact ones, as a share of the largest.
const EXACT: f32 = 1e-4;
const FAST: f32 = 2e-2;

/// A model on the processor and the same on the device.
struct Pair {
    host: Model,
    device: Model,
}

impl Pair {
    fn new(shape: &SynthShape) -> Option<Self> {
        // A simulated one takes minutes for what these compute; it runs the kernels' own tests.
        std::env::var_os("ESPALIER_TEST_CUDA").filter(|device| device != "simulated")?;
        let files = model::Model::new(shape);
        let checkpoint = Checkpoint::open(&files.hugging_face()).unwrap();
        let cpu = Cpu::new(2).unwrap();
        let device = Device::with_cuda(cpu.clone(), Cuda::open(0).unwrap());
        let host = Model::load(&checkpoint, cpu).unwrap();
        Some(Self { host, device: Model::load(&checkpoint, device).unwrap() })
    }

    /// gpt-oss with experts in MXFP4, sinks, and windows of 16 in every other layer.
    fn gpt_oss() -> Option<Self> {
        let shape = SynthShape::default().with("model_type", "gpt_oss").with("torch_dtype", "bfloat16");
        let shape = shape.with("head_dim", 32);
        Self::new(&shape.with("quantization_config", json!({ "quant_method": "mxfp4" })))
    }

    fn all() -> Vec<Self> {
        let dense = |kind: &str| Self::new(&SynthShape::default().with("model_type", kind));
        [Self::gpt_oss(), dense("llama"), dense("qwen2")].into_iter().flatten().collect()
    }
}

fn tokens(length: usize, seed: u32) -> Vec<u32> {
    (0..length as u32).map(|index| (index * 37 + seed * 11 + index * index / 5) % 200).collect()
}

fn score(model: &Model, tokens: &[u32], precision: Precision) -> Vec<f32> {
    let mut logits = Vec::new();
    model
        .score(tokens, precision, None, Some(&mut |_, rows: &[f32]| logits.extend_from_slice(rows)))
        .unwrap();
    logits
}

/// The largest difference as a share of the largest value.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let error = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs());
    error.fold(0.0, |largest, error| if error.is_nan() { f32::INFINITY } else { f32::max(largest, error) })
        / largest
}

#[test]
fn logits_are_those_of_the_processor() {
    for Pair { host, device } in Pair::all() {
        let architecture = host.spec().architecture;
        for length in [1, 17, 150] {
            let tokens = tokens(length, 3);
            let expected = score(&host, &tokens, Precision::Exact);
            for (precision, limit) in [(Precision::Exact, EXACT), (Precision::Fast, FAST)] {
                let found = score(&device, &tokens, precision);
                let rows = found.chunks_exact(host.spec().vocab_size);
                let mut errors: Vec<f32> = rows
                    .zip(expected.chunks_exact(host.spec().vocab_size))
                    .map(|(found, expected)| difference(found, expected))
                    .collect();
                errors.sort_by(f32::total_cmp);
                // Where two experts are nearly equal, rounding may choose the other: two rows in a hundred may be off.
                let flips = if precision == Precision::Fast && architecture == Architecture::GptOss {
                    length / 50
                } else {
                    0
                };
                let error = errors[errors.len() - 1 - flips];
                assert!(
                    error <= limit,
                    "{architecture:?}, {length} tokens, {precision:?}: {error}, at most {limit}"
                );
            }
        }
    }
}

/// Greedy continuations of texts that run together, in a step with a prompt that arrives later.
fn continued(model: &Model, texts: &[Vec<u32>], count: usize, precision: Precision) -> Vec<Vec<u32>> {
    let size = SequenceSize { tokens: 200, step_tokens: 100, block_tokens: 32 };
    let (mut cache, tables) = model.cache_for(texts.len(), size, CacheFormat::F32).unwrap();
    let mut texts = texts.to_vec();
    let mut computed = vec![0; texts.len()];
    let begin: Vec<usize> = texts.iter().map(Vec::len).collect();
    while texts.iter().zip(&begin).any(|(text, begin)| text.len() < begin + count) {
        // Text i arrives after i steps.
        let steps = texts[0].len() - begin[0];
        let active: Vec<usize> = (0..texts.len())
            .filter(|index| *index <= steps && texts[*index].len() < begin[*index] + count)
            .collect();
        let mut order = active.clone();
        order.sort_by_key(|index| computed[*index] == 0);
        let decoding = order.iter().filter(|index| computed[**index] > 0).count();
        let parts: Vec<(usize, &[u32])> =
            order.iter().map(|index| (*index, &texts[*index][computed[*index]..])).collect();
        let logits = step(model, &mut cache, &tables, &parts, &computed, decoding, precision);
        let next: Vec<u32> = logits.chunks_exact(model.spec().vocab_size).map(largest).collect();
        for (index, token) in order.into_iter().zip(next) {
            computed[index] = texts[index].len();
            texts[index].push(token);
        }
    }
    texts
}

fn step(
    model: &Model,
    cache: &mut KeyValueCache,
    tables: &[SequenceBlocks],
    parts: &[(usize, &[u32])],
    computed: &[usize],
    decoding: usize,
    precision: Precision,
) -> Vec<f32> {
    let tokens: Vec<u32> = parts.iter().flat_map(|(_, tokens)| tokens.iter().copied()).collect();
    let spans: Vec<_> = parts
        .iter()
        .map(|(index, tokens)| tables[*index].span(computed[*index], tokens.len()).unwrap())
        .collect();
    let batch = ForwardBatch { tokens: &tokens, spans: &spans, decoding, logits_for: LogitRows::Last };
    model.forward(&batch, cache, precision, None).unwrap()
}

fn largest(row: &[f32]) -> u32 {
    (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap() as u32
}

#[test]
fn greedy_texts_are_those_of_the_processor_alone_and_together() {
    for Pair { host, device } in Pair::all() {
        let texts = [tokens(70, 1), tokens(3, 2), tokens(33, 3)];
        let alone = |model: &Model, text: &Vec<u32>| {
            continued(model, std::slice::from_ref(text), 24, Precision::Exact)
        };
        let expected: Vec<Vec<u32>> = texts.iter().flat_map(|text| alone(&host, text)).collect();
        let found: Vec<Vec<u32>> = texts.iter().flat_map(|text| alone(&device, text)).collect();
        assert_eq!(found, expected, "{:?}", host.spec().architecture);
        assert_eq!(continued(&device, &texts, 24, Precision::Exact), expected);
    }
}

#[test]
fn a_text_does_not_depend_on_its_company() {
    let Some(Pair { device, .. }) = Pair::gpt_oss() else { return };
    let texts = [tokens(70, 1), tokens(3, 2), tokens(33, 3)];
    let alone: Vec<Vec<u32>> = texts
        .iter()
        .flat_map(|text| continued(&device, std::slice::from_ref(text), 12, Precision::Fast))
        .collect();
    assert_eq!(continued(&device, &texts, 12, Precision::Fast), alone);
}

/// Everything that is shown.
#[derive(Default)]
struct Recorder(HashMap<(usize, Probe), Vec<f32>>);

impl ProbeSink for Recorder {
    fn wants(&self, _: usize, _: Probe) -> bool {
        true
    }

    fn record(&mut self, layer: usize, probe: Probe, tokens: usize, width: usize, values: &[f32]) {
        assert_eq!(values.len(), tokens * width);
        self.0.insert((layer, probe), values.to_vec());
    }
}

#[test]
fn probes_show_what_they_show_on_the_processor() {
    for Pair { host, device } in Pair::all() {
        let tokens = tokens(60, 5);
        let [expected, found] = [&host, &device].map(|model| {
            let mut recorder = Recorder::default();
            model.score(&tokens, Precision::Exact, Some(&mut recorder), None).unwrap();
            recorder.0
        });
        assert_eq!(found.len(), expected.len());
        for (key, expected) in &expected {
            let found = &found[key];
            let largest = expected.iter().fold(1e-3f32, |largest, value| largest.max(value.abs()));
            for (found, expected) in found.iter().zip(expected) {
                let error = (found - expected).abs() / largest;
                assert!(
                    error <= 1e-3,
                    "{:?} {key:?}: {found}, expected {expected}",
                    host.spec().architecture
                );
            }
        }
    }
}

#[test]
fn a_cache_of_the_other_device_is_refused() {
    let Some(Pair { host, device }) = Pair::gpt_oss() else { return };
    let size = SequenceSize { tokens: 8, step_tokens: 8, block_tokens: 32 };
    for (model, other) in [(&host, &device), (&device, &host)] {
        let (mut cache, blocks) = other.cache_for_one(size, CacheFormat::F32).unwrap();
        let spans = [blocks.span(0, 1).unwrap()];
        let batch = ForwardBatch { tokens: &[1], spans: &spans, decoding: 0, logits_for: LogitRows::Last };
        let error = model.forward(&batch, &mut cache, Precision::Exact, None).unwrap_err();
        assert!(error.to_string().contains("device"), "{error}");
    }
}
