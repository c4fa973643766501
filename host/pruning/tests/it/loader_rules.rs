//! What other programs load, and what they do not.

use espalier_model::{Architecture, ModelSpec};
use espalier_pruning::{
    Constraints, Count, Layout, NumberFormat, Plan, PlanRequest, PruningError, Size, Storage, Target, Unit,
    check_supported, plan,
};

use crate::specs::{counted, llama, request, scores, small_gpt_oss};

#[test]
fn what_the_loaders_refuse_is_refused_with_their_names() {
    let spec = small_gpt_oss();
    let scores = scores(&spec, 5);
    let refusal = |request: &PlanRequest| plan(&scores, &spec, request).unwrap_err().to_string();
    for (counts, expected) in [
        (
            [(Unit::Expert, 3)],
            "the count of expert to keep is 3; expected between 4, through which each token passes",
        ),
        (
            [(Unit::Expert, 9)],
            "expected between 4, through which each token passes (num_experts_per_tok), and 8",
        ),
        (
            [(Unit::ExpertChannel, 80)],
            "a multiple of 32, so that block formats of HF transformers, vLLM and llama.cpp",
        ),
        (
            [(Unit::Layer, 3)],
            "between 1 and 4, and an even number fewer: vLLM and llama.cpp let every other layer slide",
        ),
        ([(Unit::Head, 6)], "a multiple of the 4 key/value groups between 4 and 8"),
        ([(Unit::KvGroup, 0)], "expected between 1 and 4"),
    ] {
        let found = refusal(&counted(counts));
        assert!(found.contains(expected), "{found}");
    }
    let mut both = counted([(Unit::Head, 4)]);
    both.units = vec![Unit::KvGroup];
    both.target.keep = Some(0.9);
    assert!(refusal(&both).contains("a count of kv-group beside it"), "{}", refusal(&both));
    both.target.keep = None;
    assert_eq!(
        refusal(&both),
        "no target says how much of kv-group is to stay; expected a share of the parameters to keep, or a count"
    );
    let mut uneven = counted([]);
    uneven.target.counts.insert(Unit::Expert, Count::PerLayer(vec![8, 7, 6, 5]));
    assert_eq!(
        refusal(&uneven),
        "expert has a count for each layer, but HF transformers, vLLM and llama.cpp have one count for all layers; the \
         layout \"espalier\" permits it, for this program alone"
    );
    assert!(check_supported(Unit::FfnChannel, &spec).unwrap_err().to_string().contains("expert-channel"));
}

#[test]
fn uneven_counts_need_the_layout_that_permits_them() {
    let spec = small_gpt_oss();
    let mut asked = counted([(Unit::Layer, 3)]);
    asked.constraints.layout = Layout::Espalier;
    asked.target.counts.insert(Unit::Expert, Count::PerLayer(vec![8, 7, 6, 5]));
    asked.target.counts.insert(Unit::ExpertChannel, Count::PerLayer(vec![128, 96, 64, 32]));
    asked.target.counts.insert(Unit::Head, Count::PerLayer(vec![8, 4, 8, 4]));
    let plan = plan(&scores(&spec, 6), &spec, &asked).unwrap();
    let pruned = plan.apply_to(&spec).unwrap();
    assert_eq!(pruned.layers.len(), 3);
    for (layer, kept) in pruned.layers.iter().zip(plan.kept_layers()) {
        let counts = (layer.heads, layer.experts.unwrap().count, layer.ffn_size);
        assert_eq!(counts, ([8, 4, 8, 4][kept], 8 - kept, 128 - 32 * kept));
        assert_eq!(layer.sliding_window, spec.layers[kept].sliding_window);
    }
    asked.target.counts.insert(Unit::Expert, Count::PerLayer(vec![8, 7]));
    let error = espalier_pruning::plan(&scores(&spec, 6), &spec, &asked).unwrap_err().to_string();
    assert!(error.contains("a list of 2; expected one count for each of the 4 layers"), "{error}");
}

/// A plan by hand.
fn edited(
    spec: &ModelSpec,
    storage: Storage,
    change: impl FnOnce(&mut Plan),
) -> Result<ModelSpec, PruningError> {
    let mut plan = Plan::unchanged(spec, storage);
    change(&mut plan);
    plan.apply_to(spec)
}

#[test]
fn edits_that_cannot_be_cut_or_loaded_are_refused() {
    let spec = small_gpt_oss();
    let refusal =
        |change: &dyn Fn(&mut Plan)| edited(&spec, Storage::mxfp4_experts(), change).unwrap_err().to_string();
    let remove_experts = |plan: &mut Plan, layer: usize, removed: Vec<usize>| {
        plan.layers[layer].experts.as_mut().unwrap().removed = removed;
    };
    let remove_channels = |plan: &mut Plan, removed: Vec<usize>| {
        for layer in &mut plan.layers {
            layer.expert_channels = (0..8)
                .map(|expert| espalier_pruning::ExpertChannels {
                    expert,
                    channels: espalier_pruning::Selection { count: 128, removed: removed.clone() },
                })
                .collect();
        }
    };
    let found = refusal(&|plan| remove_experts(plan, 1, vec![2]));
    assert!(
        found.starts_with(
            "layer 1 keeps 7 experts and layer 0 keeps 8, but HF transformers, vLLM and llama.cpp"
        ),
        "{found}"
    );
    let found = refusal(&|plan| remove_experts(plan, 0, vec![0, 1, 2, 3, 4]));
    assert!(found.contains("experts kept in layer 0 is 3; expected at least 4"), "{found}");
    let found = refusal(&|plan| plan.layers[1].removed = true);
    assert!(found.contains("vLLM and llama.cpp let every other layer slide"), "{found}");
    let found = refusal(&|plan| plan.layers.iter_mut().for_each(|layer| layer.removed = true));
    assert!(found.contains("at least one layer"), "{found}");
    let found = refusal(&|plan| remove_channels(plan, (1..33).collect()));
    assert!(
        found.contains("aligned groups of 32, the block of MXFP4, or the constraint \"lossless\": false"),
        "{found}"
    );
    let found = refusal(&|plan| remove_channels(plan, (0..16).collect()));
    assert!(
        found.contains("is 112; expected all, or a multiple of 32, the constraint ffn_channel_multiple"),
        "{found}"
    );
    let found = refusal(&|plan| {
        plan.constraints.ffn_channel_multiple = 16;
        remove_channels(plan, (0..16).collect());
    });
    assert!(found.contains("112 channels are kept in each expert, but MXFP4"), "{found}");
    let found = refusal(&|plan| {
        remove_channels(plan, (0..32).collect());
        plan.layers[2].expert_channels[3].channels.removed.truncate(31);
    });
    assert!(found.contains("channels kept in expert 3 of layer 2 is 97; expected 96"), "{found}");
    let found = refusal(&|plan| {
        remove_channels(plan, (0..32).collect());
        plan.layers[2].expert_channels.remove(3);
    });
    assert!(found.contains("the list of experts in expert_channels of layer 2"), "{found}");
    let found = refusal(&|plan| {
        plan.layers[0].kv_groups.removed = vec![1];
        plan.layers[0].heads.removed = vec![2];
    });
    assert!(found.contains("heads of groups that stay, since this one goes whole"), "{found}");
    let found = refusal(&|plan| plan.layers[0].heads.removed = vec![2, 3]);
    assert!(found.contains("heads kept in key/value group 1 of layer 0 is 0"), "{found}");

    let uneven = edited(&spec, Storage::uniform(NumberFormat::Bf16), |plan| {
        plan.constraints = Constraints { layout: Layout::Espalier, ..Constraints::default() };
        plan.layers[1].removed = true;
        plan.layers[2].kv_groups.removed = vec![0];
        let mut after = spec.clone();
        after.layers[2].kv_heads = 3;
        after.layers[2].heads = 6;
        after.layers.remove(1);
        plan.after = Size::of(&after, &plan.storage);
    });
    assert_eq!(uneven.unwrap().layers[1].heads, 6);
}

#[test]
fn llama_cpp_takes_no_fewer_heads_of_qwen2() {
    let mut spec = llama(2, 64, 8, 4, 64);
    spec.architecture = Architecture::Qwen2;
    let scores = scores(&spec, 8);
    let refusal = |request: &PlanRequest| plan(&scores, &spec, request).unwrap_err().to_string();
    let expected = "query heads are kept, but llama.cpp needs all of Qwen2's, which fill the hidden size 64";
    let counted = PlanRequest { target: Target::counts([(Unit::KvGroup, 2)]), ..request(1.0, &[]) };
    assert!(refusal(&counted).starts_with(&format!("4 {expected}")), "{}", refusal(&counted));
    let shared = request(0.95, &[Unit::Head]);
    assert!(refusal(&shared).starts_with(&format!("4 {expected}")), "{}", refusal(&shared));
    let espalier = PlanRequest {
        constraints: Constraints { layout: Layout::Espalier, ..Constraints::default() },
        ..counted
    };
    assert_eq!(plan(&scores, &spec, &espalier).unwrap().apply_to(&spec).unwrap().layers[1].heads, 4);
}

#[test]
fn transformers_takes_a_divisor_of_the_hidden_size_as_the_number_of_llamas_heads() {
    let spec = llama(6, 64, 8, 4, 64);
    let asked = PlanRequest { target: Target::counts([(Unit::KvGroup, 3)]), ..request(1.0, &[]) };
    assert_eq!(
        plan(&scores(&spec, 7), &spec, &asked).unwrap_err().to_string(),
        "6 query heads are kept, but HF transformers needs a divisor of the hidden size 64; the layout \"espalier\" \
         permits it, for this program alone"
    );
}
