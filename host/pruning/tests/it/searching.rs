//! Plans within budgets, counts layer by layer, and units that must stay.

use std::sync::Arc;

use espalier_components::Ablation;
use espalier_kernels::Cpu;
use espalier_model::{Checkpoint, Model};
use espalier_pruning::{
    Aim, Allocation, Budgets, Calibration, CalibrationRequest, Constraints, Cost, Derivation, Layout,
    ModelAblation, ModelSource, Protected, PruneRequest, PruningError, Target, Unit, Unwatched, derive_plan,
    surgery,
};

use crate::models::{Directory, llama_shape, synth};
use crate::policies::policy;

const CALIBRATION: CalibrationRequest = CalibrationRequest { windows: 3, window_tokens: 48, seed: 3 };

/// Six layers with twelve heads in four groups and 128 channels.
fn model(directory: &Directory) -> Arc<Checkpoint> {
    let shape = llama_shape()
        .with("num_hidden_layers", 6)
        .with("intermediate_size", 128)
        .with("num_attention_heads", 12)
        .with("num_key_value_heads", 4);
    Arc::new(synth(&shape, &directory.join("model")))
}

fn asked(units: &[Unit]) -> PruneRequest {
    let constraints =
        Constraints { heads_divide_hidden_size: false, ffn_channel_multiple: 16, ..Constraints::default() };
    PruneRequest { units: units.to_vec(), constraints, calibration: CALIBRATION, ..PruneRequest::default() }
}

fn derive(checkpoint: &Arc<Checkpoint>, request: &PruneRequest) -> Result<Derivation, PruningError> {
    let source = ModelSource::Load(Cpu::new(2).unwrap().into());
    let policies = [policy("block-influence"), policy("magnitude")];
    derive_plan(checkpoint, &source, &policies.each_ref(), request, &mut Unwatched)
}

fn within(budgets: &str, units: &[Unit]) -> PruneRequest {
    PruneRequest { aim: Aim::Budgets(budgets.parse::<Budgets>().unwrap()), ..asked(units) }
}

#[test]
fn the_plan_found_is_within_its_budgets_and_predicted_as_measured() {
    let directory = Directory::new();
    let checkpoint = model(&directory);
    let units = [Unit::Layer, Unit::KvGroup, Unit::Head, Unit::FfnChannel];
    let found = derive(&checkpoint, &within("parameters<=0.7x,flops<=0.75x", &units)).unwrap();
    let (plan, search) = (found.plan, found.search.unwrap());
    assert!(plan.after.parameters as f64 <= 0.7 * plan.before.parameters as f64);
    assert!(plan.after.flops_per_token as f64 <= 0.75 * plan.before.flops_per_token as f64);
    // Sizes are predicted from one layer; the plan counts every tensor.
    assert_eq!(search.chosen.parameters, plan.after.parameters);
    assert_eq!(search.chosen.bytes, plan.after.bytes);
    assert_eq!(search.chosen.flops_per_token, plan.after.flops_per_token);
    // No point of the front is beaten, and the choice is the best one within the limits.
    for pair in search.front.windows(2) {
        assert!(pair[0].parameters > pair[1].parameters, "{pair:?}");
        assert!(pair[0].predicted_rise < pair[1].predicted_rise, "{pair:?}");
    }
    let fits = |candidate: &espalier_pruning::Candidate| {
        [(Cost::Parameters, 0.7), (Cost::Flops, 0.75)]
            .iter()
            .all(|&(cost, limit)| candidate.cost(cost) <= limit * search.unpruned.cost(cost))
    };
    assert!(fits(&search.chosen));
    let better = search
        .front
        .iter()
        .filter(|other| fits(other) && other.predicted_rise < search.chosen.predicted_rise);
    assert_eq!(better.count(), 0);
    // The measured loss is that of the plan's units taken out.
    let tokenizer = checkpoint.tokenizer().unwrap();
    let text = Calibration::draw(&[], &tokenizer, checkpoint.spec(), &CALIBRATION).unwrap().windows;
    let loaded = Arc::new(Model::load(&checkpoint, Cpu::new(1).unwrap()).unwrap());
    let ablation = ModelAblation::new(loaded, text);
    let rise = ablation.loss(&plan.removed_units()).unwrap() - ablation.loss(&[]).unwrap();
    assert!((rise - search.measured_rise).abs() < 1e-6, "{rise} {}", search.measured_rise);
    assert_eq!(search.latency, None);
    let named: Vec<&str> = plan.policies.iter().map(|policy| policy.name.as_str()).collect();
    assert_eq!(named, ["block-influence", "magnitude"]);
    let text = search.to_text();
    assert!(text.contains("* chosen: perplexity x ") && text.contains("ffn-channel="), "{text}");
}

#[test]
fn time_is_calibrated_with_models_of_the_checkpoint() {
    let directory = Directory::new();
    let shape = llama_shape()
        .with("num_hidden_layers", 8)
        .with("hidden_size", 256)
        .with("intermediate_size", 1024)
        .with("max_position_embeddings", 512);
    let checkpoint = Arc::new(synth(&shape, &directory.join("model")));
    let found = derive(&checkpoint, &within("latency<=0.7x", &[Unit::Layer, Unit::FfnChannel])).unwrap();
    let search = found.search.unwrap();
    let latency = search.latency.unwrap();
    assert_eq!(latency.measured_layers, 8);
    assert!(latency.layer_ms > 0.0, "{latency:?}");
    let (chosen, whole) = (search.chosen.latency_ms.unwrap(), search.unpruned.latency_ms.unwrap());
    assert!(chosen <= 0.7 * whole, "{chosen} of {whole}");
    assert!(found.plan.after.parameters < found.plan.before.parameters);
}

#[test]
fn budgets_that_cannot_be_met_say_what_can() {
    let directory = Directory::new();
    let checkpoint = model(&directory);
    let error = derive(&checkpoint, &within("memory<=0.05x", &[Unit::FfnChannel])).unwrap_err().to_string();
    assert!(error.contains("memory<=0.05x") && error.contains("memory down to 0."), "{error}");
    let both = PruneRequest { allocation: Allocation::Global, ..within("memory<=0.5x", &[Unit::FfnChannel]) };
    let error = derive(&checkpoint, &both).unwrap_err().to_string();
    assert!(error.contains("global without a share to keep"), "{error}");
}

#[test]
fn layers_may_lose_by_their_scores_or_by_what_they_cost() {
    let directory = Directory::new();
    let checkpoint = model(&directory);
    for (allocation, units) in [
        (Allocation::Global, &[Unit::FfnChannel][..]),
        (Allocation::Sensitivity, &[Unit::FfnChannel, Unit::KvGroup][..]),
    ] {
        let mut request = PruneRequest { aim: Aim::Target(Target::share(0.8)), allocation, ..asked(units) };
        let refused = derive(&checkpoint, &request).unwrap_err().to_string();
        assert!(refused.contains("the layout \"espalier\" permits it"), "{refused}");
        request.constraints.layout = Layout::Espalier;
        let plan = derive(&checkpoint, &request).unwrap().plan;
        let (before, after) = (plan.before.parameters as f64, plan.after.parameters as f64);
        assert!(after <= 0.8 * before && after > 0.7 * before, "{allocation:?}: {}", after / before);
        let widths: Vec<usize> =
            plan.layers.iter().map(|layer| layer.ffn_channels.as_ref().unwrap().kept_count()).collect();
        let groups: Vec<usize> = plan.layers.iter().map(|layer| layer.kv_groups.kept_count()).collect();
        let differ = |counts: &[usize]| counts.iter().any(|count| *count != counts[0]);
        assert!(differ(&widths) || differ(&groups), "{allocation:?}: {widths:?} {groups:?}");
        assert!(widths.iter().all(|width| width % 16 == 0), "{widths:?}");
        surgery(&plan, &checkpoint, &directory.join(allocation.name()), &mut Unwatched).unwrap();
    }
    let both = PruneRequest {
        aim: Aim::Target(Target::share(0.8)),
        allocation: Allocation::Global,
        constraints: Constraints { layout: Layout::Espalier, ..Constraints::default() },
        ..asked(&[Unit::FfnChannel, Unit::KvGroup])
    };
    let error = derive(&checkpoint, &both).unwrap_err().to_string();
    assert!(error.contains("2 kinds of units with global allocation"), "{error}");
}

#[test]
fn what_is_protected_stays() {
    let directory = Directory::new();
    let checkpoint = model(&directory);
    let unprotected =
        PruneRequest { aim: Aim::Target(Target::counts([(Unit::Layer, 4)])), ..asked(&[Unit::Layer]) };
    let gone = |request: &PruneRequest| -> Vec<usize> {
        let plan = derive(&checkpoint, request).unwrap().plan;
        plan.layers.iter().filter(|layer| layer.removed).map(|layer| layer.layer).collect()
    };
    let first = gone(&unprotected);
    let protect = |unit, layers: &[usize]| Protected { unit, layers: Some(layers.to_vec()), indices: None };
    let protected = PruneRequest { protected: vec![protect(Unit::Layer, &first)], ..unprotected.clone() };
    assert!(gone(&protected).iter().all(|layer| !first.contains(layer)));
    let everything = PruneRequest { protected: vec![protect(Unit::Layer, &[0, 1, 2, 3, 4])], ..unprotected };
    let error = derive(&checkpoint, &everything).unwrap_err().to_string();
    assert!(error.contains("is protected, but would go; expected a target that leaves room"), "{error}");
    let missing = PruneRequest { protected: vec![protect(Unit::Layer, &[6])], ..everything };
    let error = derive(&checkpoint, &missing).unwrap_err().to_string();
    assert!(error.contains("layer 6 is named among protected units") && error.contains("below 6"), "{error}");
}

#[test]
fn a_protected_layer_keeps_its_channels_where_layers_may_differ() {
    let directory = Directory::new();
    let checkpoint = model(&directory);
    let mut request = PruneRequest {
        aim: Aim::Target(Target::share(0.8)),
        protected: vec![Protected { unit: Unit::FfnChannel, layers: Some(vec![0, 5]), indices: None }],
        ..asked(&[Unit::FfnChannel])
    };
    let error = derive(&checkpoint, &request).unwrap_err().to_string();
    assert!(error.contains("lets layers differ"), "{error}");
    request.constraints.layout = Layout::Espalier;
    let plan = derive(&checkpoint, &request).unwrap().plan;
    let widths: Vec<usize> =
        plan.layers.iter().map(|layer| layer.ffn_channels.as_ref().unwrap().kept_count()).collect();
    assert_eq!((widths[0], widths[5]), (128, 128));
    let (most, least) = (widths[1..5].iter().max().unwrap(), widths[1..5].iter().min().unwrap());
    assert!(*most < 128 && most - least <= 16, "{widths:?}");
    assert!(plan.after.parameters as f64 <= 0.8 * plan.before.parameters as f64);
}

#[test]
fn a_share_of_each_kind_leaves_no_less_than_it_says() {
    let directory = Directory::new();
    let checkpoint = model(&directory);
    let shares = |shares: &[(Unit, f64)]| PruneRequest {
        aim: Aim::Shares(shares.iter().copied().collect()),
        ..asked(&[])
    };
    let plan = derive(&checkpoint, &shares(&[(Unit::FfnChannel, 0.8), (Unit::Layer, 0.5)])).unwrap().plan;
    assert_eq!(plan.kept_layers().len(), 3);
    let width = plan.layers[plan.kept_layers()[0]].ffn_channels.as_ref().unwrap().kept_count();
    assert_eq!(width, 112, "a multiple of 16 that is at least 102.4");
    // A fifth of twelve heads is not one of each group of three.
    let plan = derive(&checkpoint, &shares(&[(Unit::Head, 0.8)])).unwrap().plan;
    assert!(plan.is_unchanged());
    let error = derive(&checkpoint, &shares(&[(Unit::Head, 1.2)])).unwrap_err().to_string();
    assert!(error.contains("keep is 1.2"), "{error}");
}

#[test]
fn what_scores_too_little_goes() {
    let directory = Directory::new();
    let checkpoint = model(&directory);
    let whole = derive(
        &checkpoint,
        &PruneRequest { aim: Aim::Target(Target::share(1.0)), ..asked(&[Unit::FfnChannel]) },
    );
    let scores = whole.unwrap().scores;
    let layers = scores.get(Unit::FfnChannel).unwrap();
    let mut all: Vec<f64> = layers.iter().flatten().copied().collect();
    all.sort_by(f64::total_cmp);
    let least = all[all.len() / 4];
    let enough: Vec<usize> =
        layers.iter().map(|scores| scores.iter().filter(|score| **score >= least).count()).collect();
    let mut request = PruneRequest { aim: Aim::Score(least), ..asked(&[Unit::FfnChannel]) };
    let widths = |request: &PruneRequest| -> Vec<usize> {
        let plan = derive(&checkpoint, request).unwrap().plan;
        plan.layers.iter().map(|layer| layer.ffn_channels.as_ref().unwrap().kept_count()).collect()
    };
    // A quarter of 128 is 32.
    assert_eq!(widths(&request), [96; 6]);
    request.constraints.layout = Layout::Espalier;
    let expected: Vec<usize> = enough.iter().map(|count| count.div_ceil(16) * 16).collect();
    assert_eq!(widths(&request), expected);
}
