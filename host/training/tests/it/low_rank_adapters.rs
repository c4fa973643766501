//! Adapters: what they change, what they leave, and what a file of them holds.

use std::fs;

use espalier_kernels::WeightFormat;
use espalier_model::{Checkpoint, safetensors};
use espalier_training::{
    AdamW, AdamWSettings, Adapter, AdapterShape, AdapterTarget, Gradients, Network, Objective, OutputFormats,
    Parameters, PassOptions, Trainable, TrainedModel, write_peft,
};
use serde_json::Value;

use crate::models::{batch, exact_logits, gpt_oss, llama, quantized_gpt_oss, synthesized};

fn shape(targets: &[AdapterTarget]) -> AdapterShape {
    AdapterShape { rank: 3, alpha: 6.0, targets: targets.to_vec() }
}

/// A network under an adapter that has learnt for two steps, its parameters and the adapter.
fn trained(checkpoint: &Checkpoint, targets: &[AdapterTarget]) -> (Network, Parameters, Adapter) {
    let spec = checkpoint.spec();
    let parameters = Parameters::load(checkpoint, Trainable::Nothing).unwrap();
    let adapter = Adapter::new(spec, shape(targets), 4).unwrap();
    let network = Network::new(spec, &parameters, Some(&adapter)).unwrap();
    let batch = batch(2, 24, 300);
    let mut optimizer = AdamW::new(&network, AdamWSettings::default());
    let mut losses = Vec::new();
    for _ in 0..3 {
        let mut gradients = Gradients::zeros(&network);
        let options = PassOptions::default();
        let loss = network.accumulate_gradients(&batch, &Objective::CrossEntropy, options, &mut gradients);
        losses.push(loss.unwrap());
        optimizer.step(&network, &gradients, 0.02).unwrap();
    }
    assert!(losses[2] < losses[0] - 0.1, "{losses:?}");
    (network, parameters, adapter)
}

#[test]
fn a_new_adapter_changes_nothing() {
    let (_directory, checkpoint) = synthesized(&gpt_oss());
    let parameters = Parameters::load(&checkpoint, Trainable::Nothing).unwrap();
    let adapter = Adapter::new(checkpoint.spec(), shape(&AdapterTarget::ALL), 4).unwrap();
    let batch = batch(1, 20, 300);
    let logits =
        |adapter| Network::new(checkpoint.spec(), &parameters, adapter).unwrap().logits(&batch).unwrap();
    assert_eq!(logits(Some(&adapter)), logits(None));
}

#[test]
fn merged_weights_compute_what_the_adapted_network_computes() {
    for model in [llama(), gpt_oss()] {
        let (directory, checkpoint) = synthesized(&model);
        let (network, parameters, adapter) = trained(&checkpoint, &AdapterTarget::ALL);
        let path = directory.path().join("merged");
        let files = checkpoint.tokenizer_files().unwrap();
        let merged = TrainedModel {
            spec: checkpoint.spec(),
            tokenizer_files: &files,
            parameters: &parameters,
            adapter: Some(&adapter),
            source: Some(&checkpoint),
            formats: OutputFormats { dtype: None, experts: None },
        };
        merged.write(&path).unwrap();
        let merged = Checkpoint::open(&path).unwrap();
        let batch = batch(1, 30, 300);
        let (found, expected) = (exact_logits(&merged, &batch), network.logits(&batch).unwrap());
        let largest = |values: &[f32]| values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let difference =
            |a: &[f32], b: &[f32]| largest(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>());
        assert!(difference(&found, &expected) < 1e-4 * largest(&expected));
        assert!(difference(&exact_logits(&checkpoint, &batch), &expected) > 0.1, "it has learnt something");
    }
}

#[test]
fn what_an_adapter_does_not_change_keeps_its_bytes() {
    let (directory, checkpoint) = synthesized(&quantized_gpt_oss());
    let targets = [AdapterTarget::QProj, AdapterTarget::DownProj];
    let (_, parameters, adapter) = trained(&checkpoint, &targets);
    let path = directory.path().join("merged");
    let files = checkpoint.tokenizer_files().unwrap();
    let model = TrainedModel {
        spec: checkpoint.spec(),
        tokenizer_files: &files,
        parameters: &parameters,
        adapter: Some(&adapter),
        source: Some(&checkpoint),
        formats: OutputFormats { dtype: None, experts: None },
    };
    model.write(&path).unwrap();
    let merged = Checkpoint::open(&path).unwrap();
    for tensor in checkpoint.tensors() {
        let other = merged.tensor(&tensor.name).unwrap();
        assert_eq!(other.format, tensor.format, "{}", tensor.name);
        let same = other.bytes().unwrap().as_slice() == tensor.bytes().unwrap().as_slice();
        let changes = tensor.name.ends_with("q_proj.weight") || tensor.name.ends_with("down_proj.weight");
        assert_eq!(same, !changes, "{}", tensor.name);
    }
    let gate = merged.tensor("model.layers.0.mlp.experts.gate_proj.weight").unwrap();
    assert_eq!(gate.format, WeightFormat::Mxfp4);
}

#[test]
fn a_file_has_pefts_names_and_shapes() {
    let (directory, checkpoint) = synthesized(&gpt_oss());
    let adapter = Adapter::new(checkpoint.spec(), shape(&AdapterTarget::ALL), 4).unwrap();
    write_peft(&adapter, checkpoint.spec(), "base", directory.path()).unwrap();
    let file = fs::read(directory.path().join("adapter_model.safetensors")).unwrap();
    let header = safetensors::parse(&file).unwrap();
    let shape_of = |name: &str| {
        let name = format!("base_model.model.model.layers.1.{name}.weight");
        header.tensors.iter().find(|entry| entry.name == name).map(|entry| entry.shape.clone())
    };
    assert_eq!(shape_of("self_attn.q_proj.lora_A"), Some(vec![3, 32]));
    assert_eq!(shape_of("self_attn.o_proj.lora_B"), Some(vec![32, 3]));
    assert_eq!(shape_of("mlp.experts.base_layer.lora_A"), Some(vec![24, 32]));
    assert_eq!(shape_of("mlp.experts.base_layer.lora_B"), Some(vec![128, 24]));
    assert_eq!(shape_of("mlp.experts.lora_A"), Some(vec![24, 64]));
    assert_eq!(shape_of("mlp.experts.lora_B"), Some(vec![32, 24]));
    assert_eq!(header.tensors.len(), 2 * 12, "four of attention and two of experts in each layer");
    let config = fs::read(directory.path().join("adapter_config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!((&config["r"], &config["lora_alpha"]), (&3.into(), &6.0.into()));
    assert_eq!(config["target_parameters"][0], "mlp.experts.gate_up_proj");
}

#[test]
fn adapters_that_make_no_sense_are_refused() {
    let (_directory, checkpoint) = synthesized(&gpt_oss());
    let refusal = |shape| Adapter::new(checkpoint.spec(), shape, 0).unwrap_err().to_string();
    let alone = refusal(shape(&[AdapterTarget::GateProj]));
    assert!(alone.contains("found gate_proj alone"), "{alone}");
    let rank = refusal(AdapterShape { rank: 0, ..shape(&AdapterTarget::ALL) });
    assert_eq!(rank, "rank of the adapter: found 0, expected 1 or more");
}
