//! Every scoring policy against an independent computation of its formula (`tests/golden/scoring_policies.py`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use espalier_components::{
    AblatedUnit, Ablation, ComponentError, InputError, LayerFacts, ModelFacts, ModelWeights, Probe,
    Projection, ScoringInputs, Trace, Unit,
};
use espalier_kernels::Tensor;
use serde::Deserialize;

use crate::guests::{facts, host, policy};

/// The guests that see traces or weights.
const POLICIES: [&str; 14] = [
    "activation-norm",
    "activation-sparsity",
    "attention-entropy",
    "block-influence",
    "expert-contribution",
    "expert-frequency",
    "expert-voting",
    "fisher",
    "flap",
    "inverse",
    "magnitude",
    "reap",
    "taylor",
    "wanda",
];

#[derive(Deserialize)]
struct Golden {
    models: Vec<GoldenModel>,
    ablation: GoldenAblation,
}

#[derive(Deserialize)]
struct GoldenModel {
    name: String,
    facts: ModelFacts,
    /// By sequence, layer and probe.
    sequences: Vec<Vec<BTreeMap<Probe, Values>>>,
    weights: Vec<BTreeMap<String, Values>>,
    /// By policy and unit, the scores of each layer.
    expected: BTreeMap<String, BTreeMap<Unit, Vec<Vec<f64>>>>,
}

#[derive(Deserialize)]
struct GoldenAblation {
    layers: usize,
    losses: Vec<GoldenLoss>,
    expected: Vec<f64>,
}

#[derive(Clone, Deserialize)]
struct GoldenLoss {
    gone: Vec<usize>,
    loss: f64,
}

#[derive(Clone, Deserialize)]
struct Values {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Values {
    fn tensor(&self) -> Tensor {
        Tensor::new(self.shape.clone(), self.values.clone()).unwrap()
    }
}

fn golden() -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/data/scoring-policies.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

struct Weights(Vec<BTreeMap<String, Values>>);

impl ModelWeights for Weights {
    fn values(
        &self,
        layer: usize,
        projection: Projection,
        expert: Option<usize>,
    ) -> Result<Tensor, InputError> {
        let name = match projection {
            Projection::Query => "query",
            Projection::Key => "key",
            Projection::Value => "value",
            Projection::AttentionOutput => "attention-output",
            Projection::Gate => "gate",
            Projection::Up => "up",
            Projection::Down => "down",
            Projection::Router => "router",
        };
        let name = expert.map_or_else(|| name.to_owned(), |expert| format!("{name}-{expert}"));
        Ok(self.0[layer].get(&name).ok_or("no such matrix")?.tensor())
    }
}

/// The scores that a policy gives to the units of every layer.
fn scores(model: &GoldenModel, name: &str, unit: Unit) -> Result<Vec<Vec<f64>>, ComponentError> {
    let host = host();
    let policy = policy(&host, name);
    let probes = policy.probes(&[unit])?;
    let weights = Some(Arc::new(Weights(model.weights.clone())) as Arc<dyn ModelWeights>);
    let inputs = ScoringInputs { weights, ..ScoringInputs::new(Arc::new(model.facts.clone())) };
    let mut job = policy.begin(inputs, &[unit])?;
    for sequence in &model.sequences {
        for (layer, recorded) in sequence.iter().enumerate() {
            let trace = |probe: &Probe| Trace { probe: *probe, values: Arc::new(recorded[probe].tensor()) };
            job.observe(layer, &probes.iter().map(trace).collect::<Vec<_>>())?;
        }
    }
    (0..model.facts.layers.len()).map(|layer| job.scores(layer, unit)).collect()
}

#[test]
fn scores_are_those_of_the_formulas() {
    let mut seen: Vec<String> = Vec::new();
    for model in golden().models {
        for (name, by_unit) in &model.expected {
            seen.push(name.clone());
            for (unit, expected) in by_unit {
                let found = scores(&model, name, *unit).unwrap();
                for (layer, (found, expected)) in found.iter().zip(expected).enumerate() {
                    assert_eq!(found.len(), expected.len());
                    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
                        assert!(
                            (found - expected).abs() <= 1e-4 * expected.abs().max(0.1),
                            "{name} of {unit} {index} in layer {layer} of {}: {found}, expected {expected}",
                            model.name
                        );
                    }
                }
            }
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen, POLICIES);
}

#[test]
fn jobs_that_run_at_once_do_not_share_what_they_saw() {
    let model = &golden().models[0];
    let alone = scores(model, "flap", Unit::Head).unwrap();
    let together: Vec<_> = std::thread::scope(|scope| {
        let jobs: Vec<_> =
            (0..4).map(|_| scope.spawn(|| scores(model, "flap", Unit::Head).unwrap())).collect();
        jobs.into_iter().map(|job| job.join().unwrap()).collect()
    });
    assert!(together.iter().all(|scores| *scores == alone));
}

/// Losses from a table, asked for by the layers that are gone.
struct Table(Vec<GoldenLoss>);

impl Ablation for Table {
    fn takes_out(&self, unit: Unit) -> bool {
        unit == Unit::Layer
    }

    fn loss(&self, without: &[AblatedUnit]) -> Result<f64, InputError> {
        let mut gone: Vec<usize> = without.iter().map(|unit| unit.layer).collect();
        gone.sort_unstable();
        let found = self.0.iter().find(|loss| loss.gone == gone);
        found.map(|loss| loss.loss).ok_or_else(|| "the job was cancelled".into())
    }
}

fn of_layers(count: usize) -> Arc<ModelFacts> {
    let mut facts = (*facts("llama")).clone();
    let layer: LayerFacts = facts.layers[0].clone();
    facts.layers = vec![layer; count];
    Arc::new(facts)
}

#[test]
fn layers_go_in_the_order_that_costs_least() {
    let golden = golden().ablation;
    let host = host();
    let policy = policy(&host, "perplexity-greedy");
    assert!(policy.probes(&[Unit::Layer]).unwrap().is_empty());
    assert!(policy.needs_ablation(&[Unit::Layer]).unwrap());
    let table: Arc<dyn Ablation> = Arc::new(Table(golden.losses));
    let inputs = ScoringInputs { ablation: Some(table), ..ScoringInputs::new(of_layers(golden.layers)) };
    let mut job = policy.begin(inputs, &[Unit::Layer]).unwrap();
    let found: Vec<f64> =
        (0..golden.layers).flat_map(|layer| job.scores(layer, Unit::Layer).unwrap()).collect();
    assert_eq!(found, golden.expected);
}

#[test]
fn a_loss_that_fails_ends_the_job_with_its_reason() {
    let host = host();
    let policy = policy(&host, "perplexity-greedy");
    let table: Arc<dyn Ablation> = Arc::new(Table(Vec::new()));
    let inputs = ScoringInputs { ablation: Some(table), ..ScoringInputs::new(of_layers(3)) };
    let mut job = policy.begin(inputs, &[Unit::Layer]).unwrap();
    let error = job.scores(0, Unit::Layer).unwrap_err().to_string();
    assert_eq!(error, "perplexity-greedy@0.1.0 could not go on in \"scores\": the job was cancelled");
}

#[test]
fn what_a_call_does_not_have_is_refused_by_name() {
    let host = host();
    let mut greedy =
        policy(&host, "perplexity-greedy").begin(ScoringInputs::new(of_layers(3)), &[Unit::Layer]).unwrap();
    let error = greedy.scores(0, Unit::Layer).unwrap_err().to_string();
    assert!(error.contains("does not ask for ablation, or this call has none"), "{error}");
    let mut magnitude =
        policy(&host, "magnitude").begin(ScoringInputs::new(facts("llama")), &[Unit::Head]).unwrap();
    let error = magnitude.scores(0, Unit::Head).unwrap_err().to_string();
    assert_eq!(error, "magnitude@0.1.0 refused \"scores\": there are no weights in this call");
}
