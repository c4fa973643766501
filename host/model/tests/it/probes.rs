//! What probes show of a layer, against the layer's formulas in f64, each from the probe before it.

use std::collections::HashMap;

use espalier_kernels::{Cpu, Precision};
use espalier_model::{Checkpoint, Model, Probe, ProbeSink, RopeScaling, SynthShape};
use serde_json::json;

use crate::model;

const TOKENS: usize = 40;
const EPSILON: f64 = 1e-5;

/// Keeps everything of layer 0, but for `without`.
#[derive(Default)]
struct Recorder {
    without: Option<Probe>,
    shown: HashMap<Probe, (usize, Vec<f64>)>,
}

impl ProbeSink for Recorder {
    fn wants(&self, layer: usize, probe: Probe) -> bool {
        layer == 0 && self.without != Some(probe)
    }

    fn record(&mut self, layer: usize, probe: Probe, tokens: usize, width: usize, values: &[f32]) {
        let rows = if probe == Probe::ExpertActivationSum { tokens } else { TOKENS };
        assert_eq!((layer, tokens, values.len()), (0, rows, rows * width));
        self.shown.insert(probe, (width, values.iter().map(|value| f64::from(*value)).collect()));
    }
}

/// A gpt-oss layer with sinks and a window of 16, and what its probes showed.
struct Layer {
    checkpoint: Checkpoint,
    model: Model,
    shown: HashMap<Probe, (usize, Vec<f64>)>,
}

impl Layer {
    fn new() -> Self {
        let shape = SynthShape::default().with("model_type", "gpt_oss");
        let shape = shape.with("rope_scaling", json!({ "rope_type": "default" }));
        let files = model::Model::new(&shape);
        let checkpoint = Checkpoint::open(&files.hugging_face()).unwrap();
        let model = Model::load(&checkpoint, Cpu::new(2).unwrap()).unwrap();
        let mut recorder = Recorder::default();
        let tokens: Vec<u32> = (0..TOKENS as u32).map(|index| index * 37 % 200).collect();
        model.score(&tokens, Precision::Exact, Some(&mut recorder), None).unwrap();
        Self { checkpoint, model, shown: recorder.shown }
    }

    fn shown(&self, probe: Probe) -> Vec<&[f64]> {
        let (width, values) = &self.shown[&probe];
        values.chunks_exact(*width).collect()
    }

    fn weights(&self, name: &str) -> Vec<f64> {
        let tensor = self.checkpoint.tensor(&format!("model.layers.0.{name}")).unwrap();
        tensor.to_f32().unwrap().into_iter().map(f64::from).collect()
    }

    /// `W x + b`, of expert `expert` where there are several.
    fn linear(&self, name: &str, expert: usize, input: &[f64]) -> Vec<f64> {
        let (weight, bias) = (self.weights(&format!("{name}.weight")), self.weights(&format!("{name}.bias")));
        let outputs = if name.contains("experts") { bias.len() / 8 } else { bias.len() };
        let rows = weight.chunks_exact(input.len()).zip(&bias).skip(expert * outputs).take(outputs);
        rows.map(|(row, bias)| row.iter().zip(input).map(|(a, b)| a * b).sum::<f64>() + bias).collect()
    }

    fn normed(&self, input: &[f64], weight: &str) -> Vec<f64> {
        let mean = input.iter().map(|value| value * value).sum::<f64>() / input.len() as f64;
        let weight = self.weights(weight);
        input.iter().zip(weight).map(|(value, weight)| value / (mean + EPSILON).sqrt() * weight).collect()
    }

    /// The heads of queries or keys at `position`, rotated.
    fn heads(&self, part: &str, position: usize) -> Vec<Vec<f64>> {
        let (d, rope) = (self.model.spec().head_dim, &self.model.spec().rope);
        assert_eq!(rope.scaling, RopeScaling::None);
        let input = self.normed(self.shown(Probe::LayerInput)[position], "input_layernorm.weight");
        let rows = self.linear(&format!("self_attn.{part}_proj"), 0, &input);
        let rotated = |head: &[f64]| {
            let (first, second) = head.split_at(d / 2);
            let pairs = first.iter().zip(second).enumerate();
            let turned: Vec<(f64, f64)> = pairs
                .map(|(index, (a, b))| {
                    let angle = position as f64 * rope.theta.powf(-2.0 * index as f64 / d as f64);
                    (a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin())
                })
                .collect();
            let halves = turned.iter().map(|pair| pair.0).chain(turned.iter().map(|pair| pair.1));
            halves.collect::<Vec<f64>>()
        };
        rows.chunks_exact(d).map(rotated).collect()
    }
}

fn assert_near(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() < 1e-4 * expected.abs().max(1.0),
            "{what}: {found}, expected {expected}"
        );
    }
}

#[test]
fn attention_statistics_follow_from_the_layers_input() {
    let layer = Layer::new();
    let spec = &layer.model.spec().layers[0];
    let (window, group) = (spec.sliding_window.unwrap(), spec.heads / spec.kv_heads);
    let sinks = layer.weights("self_attn.sinks");
    let keys: Vec<_> = (0..TOKENS).map(|position| layer.heads("k", position)).collect();
    for position in [0, 1, 15, 16, TOKENS - 1] {
        let mut expected = [const { Vec::new() }; 4];
        for (head, query) in layer.heads("q", position).iter().enumerate() {
            let visible = (position + 1).saturating_sub(window)..=position;
            let dot =
                |key: usize| query.iter().zip(&keys[key][head / group]).map(|(a, b)| a * b).sum::<f64>();
            let scores: Vec<f64> = visible.map(|key| dot(key) / (query.len() as f64).sqrt()).collect();
            let count = scores.len() as f64;
            let total = scores.iter().chain([&sinks[head]]).map(|score| score.exp()).sum::<f64>();
            let shares = scores.iter().chain([&sinks[head]]).map(|score| score.exp() / total);
            let mean = scores.iter().sum::<f64>() / count;
            expected[0].push(-shares.map(|share| share * share.ln()).sum::<f64>());
            expected[1].push(mean);
            expected[2].push(scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / count);
            expected[3].push(sinks[head].exp() / total);
        }
        let probes = [Probe::AttentionEntropy, Probe::ScoreMean, Probe::ScoreVariance, Probe::SinkMass];
        for (probe, expected) in probes.into_iter().zip(expected) {
            assert_near(layer.shown(probe)[position], &expected, probe.name());
        }
    }
}

#[test]
fn routing_and_the_layers_output_follow_from_the_heads_output() {
    let layer = Layer::new();
    let mut sums =
        vec![vec![0.0; layer.model.spec().layers[0].ffn_size]; layer.shown(Probe::RouterLogits)[0].len()];
    for position in 0..TOKENS {
        let heads = layer.shown(Probe::HeadOutput)[position];
        let added = layer.linear("self_attn.o_proj", 0, heads);
        let mut hidden: Vec<f64> =
            layer.shown(Probe::LayerInput)[position].iter().zip(added).map(|(a, b)| a + b).collect();
        let input = layer.normed(&hidden, "post_attention_layernorm.weight");
        let logits = layer.linear("mlp.router", 0, &input);
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        order.truncate(4);
        let total: f64 = order.iter().map(|expert| logits[*expert].exp()).sum();
        let (mut weights, mut norms) = (vec![0.0; logits.len()], vec![0.0; logits.len()]);
        for expert in order {
            let part = |name: &str| layer.linear(&format!("mlp.experts.{name}_proj"), expert, &input);
            let gated: Vec<f64> = part("gate")
                .into_iter()
                .zip(part("up"))
                .map(|(gate, up)| (gate.min(7.0), up.clamp(-7.0, 7.0)))
                .map(|(gate, up)| gate / (1.0 + (-1.702 * gate).exp()) * (up + 1.0))
                .collect();
            sums[expert].iter_mut().zip(&gated).for_each(|(sum, value)| *sum += value);
            let output = layer.linear("mlp.experts.down_proj", expert, &gated);
            weights[expert] = logits[expert].exp() / total;
            norms[expert] = output.iter().map(|value| value * value).sum::<f64>().sqrt();
            hidden.iter_mut().zip(output).for_each(|(sum, value)| *sum += weights[expert] * value);
        }
        assert_near(layer.shown(Probe::RouterLogits)[position], &logits, "logits");
        assert_near(layer.shown(Probe::RouterWeights)[position], &weights, "weights");
        assert_near(layer.shown(Probe::ExpertOutputNorm)[position], &norms, "norms");
        assert_near(layer.shown(Probe::LayerOutput)[position], &hidden, "output");
    }
    for (found, expected) in layer.shown(Probe::ExpertActivationSum).into_iter().zip(&sums) {
        assert_near(found, expected, "sums of activations");
    }
}

#[test]
fn probes_that_nobody_asks_for_are_not_shown() {
    let files = model::Model::small();
    let model = Model::load(&Checkpoint::open(&files.hugging_face()).unwrap(), Cpu::new(1).unwrap()).unwrap();
    let tokens: Vec<u32> = (0..TOKENS as u32).collect();
    for without in [Probe::AttentionEntropy, Probe::LayerInput, Probe::HeadOutput] {
        let mut recorder = Recorder { without: Some(without), ..Recorder::default() };
        model.score(&tokens, Precision::Exact, Some(&mut recorder), None).unwrap();
        let mut found: Vec<Probe> = recorder.shown.into_keys().collect();
        found.sort();
        let has_it = |probe: &Probe| {
            !matches!(
                probe,
                Probe::RouterLogits
                    | Probe::RouterWeights
                    | Probe::ExpertOutputNorm
                    | Probe::ExpertActivationSum
            )
        };
        let expected: Vec<Probe> =
            Probe::ALL.into_iter().filter(|probe| has_it(probe) && *probe != without).collect();
        assert_eq!(found, expected);
    }
}
