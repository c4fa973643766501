//! What surgery leaves is the model without the units, and nothing else.

use espalier_model::{Checkpoint, SynthShape};
use espalier_pruning::{
    NumberFormat, PROVENANCE_FILE, Phase, Plan, PlanRequest, Provenance, PruningError, Storage, StorageType,
    Target, Unit, Unwatched, plan, surgery,
};

use crate::models::{Directory, changed_copy, llama_shape, logits, qwen2_shape, relative_error, synth};
use crate::specs::{request, scores};

const TOKENS: [u32; 24] = [
    256, 84, 104, 101, 32, 113, 117, 105, 99, 107, 32, 98, 114, 111, 119, 110, 32, 102, 111, 120, 0, 255, 31,
    9,
];

fn plan_for(checkpoint: &Checkpoint, keep: f64, storage: NumberFormat) -> Plan {
    let spec = checkpoint.spec();
    let mut request = request(keep, &[Unit::Head, Unit::FfnChannel]);
    request.storage = Storage::uniform(storage);
    request.constraints.ffn_channel_multiple = 8;
    let plan = plan(&scores(spec, 3), spec, &request).unwrap();
    assert!(plan.layers.iter().all(|layer| !layer.heads.removed.is_empty()), "heads go");
    assert!(
        plan.layers.iter().all(|layer| !layer.ffn_channels.as_ref().unwrap().removed.is_empty()),
        "channels go"
    );
    plan
}

/// The original with the columns of the output projections that belong to removed units set to zero: the units are
/// there, but what they compute goes nowhere. A removed layer loses all of them and adds nothing.
fn muted(checkpoint: &Checkpoint, plan: &Plan, directory: &Directory) -> Checkpoint {
    let head_dim = checkpoint.spec().head_dim;
    changed_copy(checkpoint, &directory.join("muted"), |name, shape, values| {
        let Some((layer, part)) = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'))
        else {
            return;
        };
        let layer = &plan.layers[layer.parse::<usize>().unwrap()];
        let channels = layer.ffn_channels.as_ref().unwrap();
        let (kept, width) = match part {
            "self_attn.o_proj.weight" => (layer.kept_heads(), head_dim),
            "mlp.down_proj.weight" => (channels.kept(), 1),
            "self_attn.o_proj.bias" if layer.removed => (Vec::new(), 1),
            _ => return,
        };
        for row in values.chunks_exact_mut(*shape.last().unwrap()) {
            for (unit, values) in row.chunks_exact_mut(width).enumerate() {
                if layer.removed || !kept.contains(&unit) {
                    values.fill(0.0);
                }
            }
        }
    })
}

fn computes_what_the_muted_original_computes(shape: &SynthShape, keep: f64) {
    let directory = Directory::new();
    let original = synth(shape, &directory.join("original"));
    let plan = plan_for(&original, keep, NumberFormat::F32);
    compare_with_muted(&original, &plan, &directory);
}

fn compare_with_muted(original: &Checkpoint, plan: &Plan, directory: &Directory) {
    let spec = surgery(plan, original, &directory.join("pruned"), &mut Unwatched).unwrap().spec;
    let pruned = Checkpoint::open(&directory.join("pruned")).unwrap();
    assert_eq!(pruned.spec(), &spec);
    assert_eq!(spec.parameters(), plan.after.parameters);

    let found = logits(&pruned, &TOKENS);
    let expected = logits(&muted(original, plan, directory), &TOKENS);
    let error = relative_error(&found, &expected);
    assert!(error < 1e-4, "relative error {error}");
    let untouched = relative_error(&logits(original, &TOKENS), &expected);
    assert!(untouched > 1e-2, "the removed units did something: {untouched}");
}

#[test]
fn layers_groups_heads_and_channels_go_together() {
    for shape in [llama_shape(), qwen2_shape(), llama_shape().with("attention_bias", true)] {
        let shape =
            shape.with("num_hidden_layers", 5).with("num_attention_heads", 12).with("num_key_value_heads", 4);
        let directory = Directory::new();
        let original = synth(&shape, &directory.join("original"));
        let counts = [(Unit::Layer, 3), (Unit::KvGroup, 3), (Unit::Head, 6), (Unit::FfnChannel, 64)];
        let asked = PlanRequest {
            target: Target::counts(counts),
            storage: Storage::uniform(NumberFormat::F32),
            ..request(1.0, &[])
        };
        let plan = plan(&scores(original.spec(), 6), original.spec(), &asked).unwrap();
        compare_with_muted(&original, &plan, &directory);
    }
}

#[test]
fn a_pruned_llama_computes_what_the_original_does_with_the_units_muted() {
    computes_what_the_muted_original_computes(&llama_shape(), 0.6);
}

#[test]
fn a_pruned_qwen2_keeps_the_right_biases() {
    computes_what_the_muted_original_computes(&qwen2_shape(), 0.6);
}

#[test]
fn a_llama_with_a_bias_on_every_projection_keeps_the_right_ones() {
    computes_what_the_muted_original_computes(&llama_shape().with("attention_bias", true), 0.6);
}

#[test]
fn a_model_with_one_head_per_group_loses_channels_only() {
    let directory = Directory::new();
    let shape = llama_shape().with("num_key_value_heads", 8);
    let original = synth(&shape, &directory.join("original"));
    let mut request = request(0.8, &[Unit::Head, Unit::FfnChannel]);
    request.constraints.ffn_channel_multiple = 8;
    let plan = plan(&scores(original.spec(), 4), original.spec(), &request).unwrap();
    assert!(plan.layers.iter().all(|layer| layer.heads.removed.is_empty()));
    surgery(&plan, &original, &directory.join("pruned"), &mut Unwatched).unwrap();
}

#[test]
fn an_unchanged_plan_is_an_export_with_the_same_logits() {
    let directory = Directory::new();
    let original = synth(&llama_shape(), &directory.join("original"));
    let plan = Plan::unchanged(original.spec(), StorageType::Source.of(&original));
    surgery(&plan, &original, &directory.join("copy"), &mut Unwatched).unwrap();
    let copy = Checkpoint::open(&directory.join("copy")).unwrap();
    assert_eq!(logits(&copy, &TOKENS), logits(&original, &TOKENS));
    for tensor in original.tensors() {
        assert_eq!(copy.tensor(&tensor.name).unwrap().to_f32().unwrap(), tensor.to_f32().unwrap());
    }
}

#[test]
fn half_formats_take_half_the_bytes_and_stay_close() {
    let directory = Directory::new();
    let original = synth(&llama_shape(), &directory.join("original"));
    let exact = plan_for(&original, 0.6, NumberFormat::F32);
    surgery(&exact, &original, &directory.join("f32"), &mut Unwatched).unwrap();
    let reference = logits(&Checkpoint::open(&directory.join("f32")).unwrap(), &TOKENS);
    for (storage, tolerance) in [(NumberFormat::Bf16, 0.05), (NumberFormat::F16, 0.005)] {
        let path = directory.join(storage.name());
        let plan = plan_for(&original, 0.6, storage);
        surgery(&plan, &original, &path, &mut Unwatched).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        let bytes: u64 = checkpoint.tensors().map(|tensor| tensor.byte_len() as u64).sum();
        assert_eq!(bytes, plan.after.bytes);
        let error = relative_error(&logits(&checkpoint, &TOKENS), &reference);
        assert!(error < tolerance, "{}: {error}", storage.name());
    }
}

#[test]
fn the_provenance_says_what_was_done_to_what() {
    let directory = Directory::new();
    let original = synth(&llama_shape(), &directory.join("original"));
    let plan = plan_for(&original, 0.6, NumberFormat::Bf16);
    surgery(&plan, &original, &directory.join("pruned"), &mut Unwatched).unwrap();
    let provenance = Provenance::read(&directory.join("pruned")).unwrap().unwrap();
    assert_eq!(provenance.plan, plan);
    assert_eq!(provenance.source.name, "original");
    assert_eq!(Provenance::read(&directory.join("original")).unwrap(), None);
    let text = std::fs::read_to_string(directory.join("pruned").join(PROVENANCE_FILE)).unwrap();
    assert!(!text.contains(&directory.join("").display().to_string()), "no path of this machine");
}

#[test]
fn a_pruned_model_can_be_pruned_again() {
    let directory = Directory::new();
    let original = synth(&llama_shape(), &directory.join("original"));
    surgery(
        &plan_for(&original, 0.75, NumberFormat::F32),
        &original,
        &directory.join("once"),
        &mut Unwatched,
    )
    .unwrap();
    let once = Checkpoint::open(&directory.join("once")).unwrap();
    let mut again = request(0.9, &[Unit::FfnChannel]);
    again.constraints.ffn_channel_multiple = 8;
    let plan = plan(&scores(once.spec(), 5), once.spec(), &again).unwrap();
    surgery(&plan, &once, &directory.join("twice"), &mut Unwatched).unwrap();
    assert_eq!(
        Checkpoint::open(&directory.join("twice")).unwrap().spec().parameters(),
        plan.after.parameters
    );
}

#[test]
fn a_cancelled_surgery_leaves_nothing() {
    let directory = Directory::new();
    let original = synth(&llama_shape(), &directory.join("original"));
    let plan = plan_for(&original, 0.6, NumberFormat::F32);
    for stop_at in [0, 1, 17] {
        let mut progress = |phase: Phase, done: u64, _: u64| {
            assert_eq!(phase, Phase::Surgery);
            done < stop_at
        };
        let error = surgery(&plan, &original, &directory.join("pruned"), &mut progress).unwrap_err();
        assert!(matches!(error, PruningError::Cancelled), "{error}");
        assert_eq!(directory.names(), ["original"]);
    }
}

#[test]
fn an_output_that_exists_is_not_touched() {
    let directory = Directory::new();
    let original = synth(&llama_shape(), &directory.join("original"));
    let plan = plan_for(&original, 0.6, NumberFormat::F32);
    let before = std::fs::read_to_string(directory.join("original").join("config.json")).unwrap();
    let error = surgery(&plan, &original, &directory.join("original"), &mut Unwatched).unwrap_err();
    assert!(matches!(error, PruningError::OutputExists { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(directory.join("original").join("config.json")).unwrap(), before);
}

#[test]
fn a_plan_for_another_model_cuts_nothing() {
    let directory = Directory::new();
    let original = synth(&llama_shape(), &directory.join("original"));
    let other = synth(&llama_shape().with("num_hidden_layers", 2), &directory.join("other"));
    let plan = plan_for(&other, 0.6, NumberFormat::F32);
    let error = surgery(&plan, &original, &directory.join("pruned"), &mut Unwatched).unwrap_err();
    assert!(matches!(error, PruningError::PlanMismatch { .. }), "{error}");
    assert_eq!(directory.names(), ["original", "other"]);
}
