//! What a model loses without some units, and the policies that ask for it.

use std::sync::Arc;

use espalier_components::{AblatedUnit, Ablation};
use espalier_kernels::Cpu;
use espalier_model::{Checkpoint, Model, SynthShape};
use espalier_pruning::{
    Aim, Calibration, CalibrationRequest, Constraints, Layout, ModelAblation, ModelSource, NumberFormat,
    Phase, Plan, PlanRequest, PruneRequest, PruningError, Storage, Target, Unit, Unwatched, derive_plan,
    plan, surgery,
};

use crate::gpt_oss;
use crate::models::{Directory, llama_shape, synth};
use crate::policies::policy;
use crate::specs::{request, scores};

const WINDOWS: usize = 3;

fn windows() -> Vec<Vec<u32>> {
    (0..WINDOWS)
        .map(|window| (0..40).map(|token| ((token * 7 + window * 31) % 97) as u32).collect())
        .collect()
}

fn loss(checkpoint: &Checkpoint, without: &[AblatedUnit]) -> f64 {
    let model = Model::load(checkpoint, Cpu::new(1).unwrap()).unwrap();
    ModelAblation::new(Arc::new(model), windows()).loss(without).unwrap()
}

fn loses_what_the_pruned_model_loses<const N: usize>(shape: &SynthShape, counts: [(Unit, usize); N]) {
    let directory = Directory::new();
    let original = synth(shape, &directory.join("original"));
    let asked = PlanRequest {
        target: Target::counts(counts),
        storage: Storage::uniform(NumberFormat::F32),
        constraints: Constraints { lossless: false, ..Constraints::default() },
        ..request(1.0, &[])
    };
    let plan = plan(&scores(original.spec(), 6), original.spec(), &asked).unwrap();
    surgery(&plan, &original, &directory.join("pruned"), &mut Unwatched).unwrap();
    let pruned = Checkpoint::open(&directory.join("pruned")).unwrap();
    let (found, expected) = (loss(&original, &plan.removed_units()), loss(&pruned, &[]));
    assert!((found - expected).abs() < 1e-5, "{found}, expected {expected}");
    assert!((loss(&original, &[]) - expected).abs() > 1e-3, "the units did something");
}

#[test]
fn a_dense_model_without_units_loses_what_the_pruned_one_loses() {
    let shape = llama_shape()
        .with("num_hidden_layers", 5)
        .with("num_attention_heads", 12)
        .with("num_key_value_heads", 4);
    let counts = [(Unit::Layer, 3), (Unit::KvGroup, 3), (Unit::Head, 6), (Unit::FfnChannel, 64)];
    loses_what_the_pruned_model_loses(&shape, counts);
}

#[test]
fn a_mixture_without_experts_loses_what_the_pruned_one_loses() {
    let shape = SynthShape::default().with("model_type", "gpt_oss").with("head_dim", 16);
    loses_what_the_pruned_model_loses(&shape, [(Unit::Expert, 6), (Unit::Head, 4)]);
}

fn asked(unit: Unit, keep: usize) -> PruneRequest {
    PruneRequest {
        units: vec![unit],
        aim: Aim::Target(Target::counts([(unit, keep)])),
        constraints: Constraints { layout: Layout::Espalier, ..Constraints::default() },
        calibration: CalibrationRequest { windows: 2, window_tokens: 48, seed: 3 },
        ..PruneRequest::default()
    }
}

/// The first layer's removed units of a plan by this policy.
fn planned(checkpoint: &Arc<Checkpoint>, name: &str, unit: Unit, keep: usize) -> Result<Plan, PruningError> {
    let source = ModelSource::Load(Cpu::new(2).unwrap().into());
    Ok(derive_plan(checkpoint, &source, &[&policy(name)], &asked(unit, keep), &mut Unwatched)?.plan)
}

#[test]
fn every_policy_plans_on_models_that_have_its_units() {
    let directory = Directory::new();
    let dense = Arc::new(synth(&llama_shape(), &directory.join("dense")));
    let mixture = Arc::new(synth(&gpt_oss::shape(), &directory.join("mixture")));
    for (name, unit, keep) in [
        ("activation-norm", Unit::FfnChannel, 64),
        ("activation-sparsity", Unit::FfnChannel, 64),
        ("attention-entropy", Unit::Head, 6),
        ("block-influence", Unit::Layer, 2),
        ("fisher", Unit::FfnChannel, 64),
        ("flap", Unit::FfnChannel, 64),
        ("inverse", Unit::Head, 6),
        ("magnitude", Unit::KvGroup, 1),
        ("perplexity-greedy", Unit::Layer, 2),
        ("taylor", Unit::Head, 6),
        ("wanda", Unit::Head, 6),
    ] {
        let plan = planned(&dense, name, unit, keep).unwrap();
        assert!(plan.after.parameters < plan.before.parameters, "{name}");
        assert_eq!(plan.calibration.is_none(), name == "magnitude", "{name}");
    }
    for (name, unit, keep) in [
        ("attention-entropy", Unit::Head, 4),
        ("block-influence", Unit::Layer, 3),
        ("expert-frequency", Unit::Expert, 6),
        ("expert-voting", Unit::Expert, 6),
        ("inverse", Unit::Expert, 6),
        ("magnitude", Unit::Expert, 6),
        ("perplexity-greedy", Unit::Layer, 3),
        ("reap", Unit::Expert, 6),
        ("taylor", Unit::Head, 4),
    ] {
        let plan = planned(&mixture, name, unit, keep).unwrap();
        assert!(plan.after.parameters < plan.before.parameters, "{name}");
    }
}

#[test]
fn the_layer_that_greedy_takes_is_the_one_that_costs_least() {
    let directory = Directory::new();
    let checkpoint = Arc::new(synth(&llama_shape(), &directory.join("model")));
    let plan = planned(&checkpoint, "perplexity-greedy", Unit::Layer, 2).unwrap();
    let gone: Vec<usize> =
        plan.layers.iter().filter(|layer| layer.removed).map(|layer| layer.layer).collect();
    let tokenizer = checkpoint.tokenizer().unwrap();
    let request = asked(Unit::Layer, 2).calibration;
    let text = Calibration::draw(&[], &tokenizer, checkpoint.spec(), &request).unwrap().windows;
    let model = Arc::new(Model::load(&checkpoint, Cpu::new(1).unwrap()).unwrap());
    let ablation = ModelAblation::new(model, text);
    let cost = |layer: usize| ablation.loss(&[AblatedUnit { layer, unit: Unit::Layer, index: 0 }]).unwrap();
    let cheapest = (0..3).min_by(|a, b| cost(*a).total_cmp(&cost(*b))).unwrap();
    assert_eq!(gone, [cheapest]);
}

#[test]
fn what_cannot_be_recorded_is_refused_before_anything_is_loaded() {
    let directory = Directory::new();
    let checkpoint = Arc::new(synth(&llama_shape(), &directory.join("model")));
    let refusal = |name: &str, unit: Unit| planned(&checkpoint, name, unit, 1).unwrap_err().to_string();
    assert!(refusal("reap", Unit::Layer).contains("does not score the unit \"layer\", it scores expert"));
}

#[test]
fn a_search_can_be_cancelled() {
    let directory = Directory::new();
    let shape = llama_shape().with("num_hidden_layers", 24).with("max_position_embeddings", 2048);
    let checkpoint = Arc::new(synth(&shape, &directory.join("model")));
    let mut request = asked(Unit::Layer, 20);
    request.calibration = CalibrationRequest { windows: 60, window_tokens: 400, seed: 0 };
    let mut asked_for = 0;
    let mut progress = |phase: Phase, _: u64, _: u64| {
        asked_for += u32::from(phase == Phase::Ablate);
        asked_for < 3
    };
    let source = ModelSource::Load(Cpu::new(2).unwrap().into());
    let started = std::time::Instant::now();
    let error = derive_plan(&checkpoint, &source, &[&policy("perplexity-greedy")], &request, &mut progress)
        .unwrap_err();
    assert!(matches!(error, PruningError::Cancelled), "{error}");
    // The whole search is minutes of work.
    assert!(started.elapsed() < std::time::Duration::from_secs(20));
}
