//! Losses, gradients and steps as PyTorch computes them (`tests/golden/training_reference.py`).

use std::path::PathBuf;

use espalier_golden::{data, tensors::Tensors};
use espalier_kernels::Tensor;
use espalier_model::Checkpoint;
use espalier_training::{
    AdamW, AdamWSettings, Batch, Distillation, Gradients, LayerGradients, Network, Objective, PassOptions,
    TeacherOutput, Trainable,
};

use crate::models::network;

const MODELS: [&str; 2] = ["gpt-oss-f32", "llama-tied-f32"];

struct Golden {
    network: Network,
    batch: Batch,
    tensors: Tensors,
}

impl Golden {
    fn open(name: &str) -> Self {
        let checkpoint = Checkpoint::open(&data().join("tiny").join(name)).unwrap();
        let path: PathBuf = data().join("training").join(format!("{name}.safetensors"));
        let tensors = Tensors::read(&path).unwrap();
        let tokens = tensors.ids("tokens").unwrap();
        let sequences: Vec<Vec<u32>> = tokens.chunks(40).map(<[u32]>::to_vec).collect();
        let batch = Batch::new(&sequences).unwrap();
        Self { network: network(&checkpoint, Trainable::All), batch, tensors }
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.tensors.floats(name).unwrap()
    }

    fn gradients(&self, objective: &Objective<'_>) -> (f64, Gradients) {
        let mut gradients = Gradients::zeros(&self.network);
        let options = PassOptions { activation_checkpointing: true };
        let loss =
            self.network.accumulate_gradients(&self.batch, objective, options, &mut gradients).unwrap();
        (loss, gradients)
    }

    fn teacher(&self) -> TeacherOutput {
        let layers = self.network.spec().layers.len();
        let hidden = self.floats("teacher.hidden");
        let hidden = hidden.chunks(hidden.len() / layers).map(<[f32]>::to_vec).collect();
        TeacherOutput { logits: self.floats("teacher.logits"), hidden }
    }
}

fn sampled(values: &[f32], step: usize) -> Vec<f32> {
    let step = if values.len() > 2000 || step == 7 { step } else { 1 };
    values.iter().step_by(step).copied().collect()
}

/// Within `limit` of the largest expected value.
fn assert_close(what: &str, found: &[f32], expected: &[f32], limit: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0_f32, |scale, value| scale.max(value.abs()));
    let error = found.iter().zip(expected).fold(0.0_f32, |error, (a, b)| error.max((a - b).abs()));
    assert!(error <= limit * scale, "{what}: error {error} of {scale}");
    assert!(scale > 0.0, "{what} is all zero");
}

#[test]
fn the_loss_and_every_gradient() {
    for name in MODELS {
        let golden = Golden::open(name);
        let (loss, gradients) = golden.gradients(&Objective::CrossEntropy);
        assert_close("loss", &[loss as f32], &golden.floats("loss"), 1e-5);
        for (parameter, found) in golden.network.trainable().iter().zip(gradients.values()) {
            let expected = golden.floats(&format!("gradient.{}", parameter.name));
            assert_close(&format!("{name}: {}", parameter.name), &sampled(found, 3), &expected, 1e-4);
        }
    }
}

#[test]
fn weights_after_four_steps() {
    for name in MODELS {
        let golden = Golden::open(name);
        let mut optimizer = AdamW::new(&golden.network, AdamWSettings::default());
        for expected in golden.floats("steps.loss") {
            let (loss, mut gradients) = golden.gradients(&Objective::CrossEntropy);
            assert_close("loss of a step", &[loss as f32], &[expected], 1e-4);
            gradients.clip_norm(0.5);
            optimizer.step(&golden.network, &gradients, 3e-3).unwrap();
        }
        for parameter in golden.network.trainable() {
            let expected = golden.floats(&format!("after.{}", parameter.name));
            let found = sampled(&parameter.values().unwrap(), 7);
            let name = format!("{name}: {}", parameter.name);
            // A step moves each weight by about the learning rate whatever its gradient's size, so rounding decides
            // the direction of those whose gradient is next to nothing.
            let apart = found.iter().zip(&expected).filter(|(a, b)| (*a - *b).abs() > 1e-4).count();
            assert!(apart * 200 <= found.len(), "{name}: {apart} of {} values differ", found.len());
            let distance: f32 = found.iter().zip(&expected).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
            let length: f32 = expected.iter().map(|value| value.powi(2)).sum::<f32>().sqrt();
            assert!(distance <= 1e-3 * length, "{name}: {distance} of {length}");
        }
    }
}

#[test]
fn distillation() {
    let cases = [
        ("full", Distillation { weight: 0.7, temperature: 2.0, ..Distillation::default() }),
        ("top8", Distillation { temperature: 1.5, top_k: Some(8), ..Distillation::default() }),
        ("hidden", Distillation { hidden_weight: 3.0, ..Distillation::default() }),
    ];
    for name in MODELS {
        let golden = Golden::open(name);
        let teacher = golden.teacher();
        for (case, settings) in cases {
            let (loss, gradients) =
                golden.gradients(&Objective::Distillation { settings, teacher: &teacher });
            assert_close(case, &[loss as f32], &golden.floats(&format!("kd.{case}")), 1e-5);
            let queries = "model.layers.0.self_attn.q_proj.weight";
            let place = golden.network.trainable().iter().position(|parameter| parameter.name == queries);
            let found = sampled(&gradients.values()[place.unwrap()], 7);
            let expected = golden.floats(&format!("kd.{case}.gradient"));
            assert_close(&format!("{name}: {case}"), &found, &expected, 1e-4);
        }
    }
}

#[test]
fn gradients_of_activations() {
    for name in MODELS {
        let golden = Golden::open(name);
        let windows = golden.batch.tokens().chunks(golden.batch.positions());
        let found: Vec<_> = windows.map(|window| golden.network.window_gradients(window).unwrap()).collect();
        let mean = found.iter().map(|window| window.loss).sum::<f64>() / found.len() as f64;
        assert_close("loss", &[mean as f32], &golden.floats("loss"), 1e-5);
        // PyTorch's loss is the mean over both windows.
        let joined = |of: &dyn Fn(&LayerGradients) -> Option<&Tensor>, layer: usize| {
            let values = found.iter().flat_map(|window| of(&window.layers[layer]).unwrap().values());
            values.map(|value| value / found.len() as f32).collect::<Vec<f32>>()
        };
        for (index, layer) in golden.network.spec().layers.iter().enumerate() {
            let heads = joined(&|gradients| Some(&gradients.head_output), index);
            let expected = golden.floats(&format!("head_output.{index}"));
            assert_close(&format!("{name}: heads of {index}"), &heads, &expected, 1e-4);
            if layer.experts.is_none() {
                let channels = joined(&|gradients| gradients.ffn_activation.as_ref(), index);
                let expected = golden.floats(&format!("ffn.{index}"));
                assert_close(&format!("{name}: channels of {index}"), &channels, &expected, 1e-4);
            }
        }
        let tensor = &found[0].layers[0].head_output;
        assert_eq!(
            (tensor.rows(), tensor.columns()),
            (40, golden.network.spec().layers[0].heads * golden.network.spec().head_dim)
        );
    }
}
