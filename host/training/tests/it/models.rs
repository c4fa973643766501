//! Tiny models with random weights.

use std::path::Path;

use espalier_kernels::{Cpu, Precision, WeightFormat, quantize};
use espalier_model::{
    Checkpoint, ExpertsSpec, LayerSpec, Model, Shapes, SynthShape, TensorPlan, export_gguf, synthesize,
    write_hugging_face_in_parts,
};
use espalier_training::{Batch, Network, Parameters, Trainable};
use serde_json::json;
use tempfile::TempDir;

/// A Llama of two layers.
pub(crate) fn llama() -> SynthShape {
    let shape = SynthShape::default().with("num_hidden_layers", 2).with("hidden_size", 32);
    shape.with("num_attention_heads", 4).with("torch_dtype", "float32")
}

/// A gpt-oss of two layers, one with a window of 16, with four of eight experts.
pub(crate) fn gpt_oss() -> SynthShape {
    let shape = SynthShape::default().with("model_type", "gpt_oss").with("num_hidden_layers", 2);
    shape.with("hidden_size", 32).with("num_attention_heads", 4).with("torch_dtype", "float32")
}

/// The same with experts in MXFP4.
pub(crate) fn quantized_gpt_oss() -> SynthShape {
    gpt_oss().with("torch_dtype", "bfloat16").with("quantization_config", json!({ "quant_method": "mxfp4" }))
}

/// A directory with a model in `model`.
pub(crate) fn synthesized(shape: &SynthShape) -> (TempDir, Checkpoint) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model");
    synthesize(shape, &path, 5).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    (directory, checkpoint)
}

/// The same model as GGUF.
pub(crate) fn as_gguf(checkpoint: &Checkpoint, directory: &Path) -> Checkpoint {
    let path = directory.join("model.gguf");
    export_gguf(checkpoint, &path, None).unwrap();
    Checkpoint::open(&path).unwrap()
}

/// A gpt-oss whose second layer has fewer heads, channels and experts.
pub(crate) fn uneven(directory: &Path) -> Checkpoint {
    let (_keep, even) = synthesized(&gpt_oss());
    let mut spec = even.spec().clone();
    spec.layers[1] = LayerSpec {
        heads: 3,
        kv_heads: 1,
        ffn_size: 32,
        experts: Some(ExpertsSpec { count: 5, active: 2 }),
        ..spec.layers[1].clone()
    };
    let plans: Vec<TensorPlan> = spec
        .tensors()
        .into_iter()
        .map(|tensor| TensorPlan { name: tensor.name, format: WeightFormat::F32, shape: tensor.shape })
        .collect();
    let path = directory.join("uneven");
    let mut produce = |plan: &TensorPlan, part: std::ops::Range<usize>| {
        let row: usize = plan.shape.iter().skip(1).product();
        let value = |index: usize| ((index * 31 + plan.name.len() * 7) as f32 * 0.37).sin() * 0.3;
        let values: Vec<f32> = (part.start * row..part.end * row).map(value).collect();
        let mut bytes = Vec::new();
        quantize(WeightFormat::F32, &values, &mut bytes)?;
        Ok(bytes.into())
    };
    let files = even.tokenizer_files().unwrap();
    write_hugging_face_in_parts(&path, &spec, &files, &plans, Shapes::PerLayer, &mut produce).unwrap();
    Checkpoint::open(&path).unwrap()
}

/// The model as a network.
pub(crate) fn network(checkpoint: &Checkpoint, trainable: Trainable) -> Network {
    let parameters = Parameters::load(checkpoint, trainable).unwrap();
    Network::new(checkpoint.spec(), &parameters, None).unwrap()
}

/// Sequences that look like nothing in particular.
pub(crate) fn batch(sequences: usize, positions: usize, vocabulary: u32) -> Batch {
    let token = |index: usize| ((index * 37 + index * index * 11 + 5) as u32) % vocabulary;
    let sequence = |start: usize| (0..positions).map(|position| token(start * 1000 + position)).collect();
    Batch::new(&(0..sequences).map(sequence).collect::<Vec<Vec<u32>>>()).unwrap()
}

/// Logits of every position by the serving path's exact arithmetic.
pub(crate) fn exact_logits(checkpoint: &Checkpoint, batch: &Batch) -> Vec<f32> {
    let model = Model::load(checkpoint, Cpu::new(1).unwrap()).unwrap();
    let mut logits = Vec::new();
    for sequence in batch.tokens().chunks(batch.positions()) {
        let mut take = |_: usize, rows: &[f32]| logits.extend_from_slice(rows);
        model.score(sequence, Precision::Exact, None, Some(&mut take)).unwrap();
    }
    logits
}
