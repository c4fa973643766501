//! Plans for gpt-oss: exact counts, and what the loaders accept.

use espalier_model::{Architecture, ModelSpec};
use espalier_pruning::{
    Constraints, Count, Layout, NumberFormat, Plan, PlanRequest, PruningError, Size, Storage, Target, Unit,
    check_supported, plan,
};

use crate::specs::{counted, gpt_oss_20b, llama, request, scores, small_gpt_oss};

/// Parameters after keeping these counts of gpt-oss-20b.
fn parameters<const N: usize>(counts: [(Unit, usize); N]) -> u64 {
    let spec = gpt_oss_20b();
    let mut scores = espalier_pruning::Scores::new();
    for (unit, _) in &counts {
        let of_layer = |layer| vec![1.0; espalier_pruning::unit_count(*unit, layer)];
        scores.insert(*unit, spec.layers.iter().map(of_layer).collect());
    }
    let plan = plan(&scores, &spec, &counted(counts)).unwrap();
    let pruned = plan.apply_to(&spec).unwrap();
    assert_eq!(plan.after.parameters, pruned.parameters());
    plan.after.parameters
}

#[test]
fn gpt_oss_20b_has_the_counts_of_its_reference_table_for_every_cut() {
    use Unit::{Expert, ExpertChannel, Head, KvGroup, Layer};
    assert_eq!(gpt_oss_20b().parameters(), 20_914_757_184);
    for (experts, expected) in [
        (28, 18_524_863_968),
        (27, 17_927_390_664),
        (24, 16_134_970_752),
        (22, 14_940_024_144),
        (20, 13_745_077_536),
        (18, 12_550_130_928),
        (17, 11_952_657_624),
        (16, 11_355_184_320),
        (8, 6_575_397_888),
        (4, 6_575_397_888 - 4 * 597_473_304),
    ] {
        assert_eq!(parameters([(Expert, experts)]), expected, "{experts} experts");
    }
    for (channels, expected) in [
        (2560, 18_790_899_264),
        (2400, 17_728_970_304),
        (2304, 17_091_812_928),
        (2048, 15_392_726_592),
        (1984, 14_967_955_008),
        (1920, 14_543_183_424),
        (1536, 11_994_553_920),
        (1440, 11_357_396_544),
    ] {
        assert_eq!(parameters([(ExpertChannel, channels)]), expected, "{channels} channels");
    }
    for (layers, expected) in [
        (22, 19_268_383_232),
        (20, 17_622_009_280),
        (18, 15_975_635_328),
        (16, 14_329_261_376),
        (14, 12_682_887_424),
        (12, 11_036_513_472),
    ] {
        assert_eq!(parameters([(Layer, layers)]), expected, "{layers} layers");
    }
    let whole = 20_914_757_184_u64;
    for (heads, groups, less) in [
        (56, 8, 70_791_360),
        (48, 8, 141_582_720),
        (32, 8, 283_165_440),
        (56, 7, 79_641_792),
        (48, 6, 159_283_584),
    ] {
        assert_eq!(parameters([(Head, heads), (KvGroup, groups)]), whole - less, "{heads}/{groups}");
    }
    assert_eq!(parameters([(Head, 56), (Expert, 24)]), 16_064_179_392);
    assert_eq!(parameters([(Head, 56), (Expert, 28), (ExpertChannel, 2560)]), 16_595_696_928);
    assert_eq!(parameters([(Head, 56), (Expert, 28), (ExpertChannel, 2432)]), 15_852_346_656);
    assert_eq!(parameters([(Head, 56), (Expert, 24), (ExpertChannel, 2304)]), 13_196_971_200);
    assert_eq!(parameters([(Head, 48), (Expert, 20), (ExpertChannel, 2560)]), 12_276_083_616);
    assert_eq!(parameters([(Layer, 22), (Head, 56), (Expert, 24)]), 14_822_020_256);
    assert_eq!(parameters([(Layer, 22), (Head, 56), (Expert, 26), (ExpertChannel, 2560)]), 14_335_556_300);
}

#[test]
fn its_bytes_and_active_parameters_are_those_of_the_table_too() {
    let size = Size::of(&gpt_oss_20b(), &Storage::mxfp4_experts());
    assert_eq!((size.active_parameters, size.bytes / 1_000_000), (3_608_307_264, 13_761));
    let bf16 = Size::of(&gpt_oss_20b(), &Storage::uniform(NumberFormat::Bf16));
    assert_eq!(bf16.bytes, 2 * 20_914_757_184);
    // Two operations per multiply-add; norms, biases and sinks take part in no product.
    let products = size.flops_per_token / 2;
    assert!(
        products < size.active_parameters && products > size.active_parameters / 1000 * 999,
        "{products}"
    );
}

#[test]
fn a_share_picks_the_count_just_below_it() {
    let spec = gpt_oss_20b();
    let scores = scores(&spec, 1);
    for (unit, keep, expected) in [
        (Unit::Expert, 0.72, 14_940_024_144_u64),
        (Unit::Expert, 0.7143, 14_342_550_840),
        (Unit::ExpertChannel, 0.72, 14_967_955_008),
        (Unit::Layer, 0.85, 17_622_009_280),
        (Unit::Layer, 0.69, 14_329_261_376),
    ] {
        let request = PlanRequest { storage: Storage::mxfp4_experts(), ..request(keep, &[unit]) };
        let plan = plan(&scores, &spec, &request).unwrap();
        assert_eq!(plan.after.parameters, expected, "{unit} {keep}");
    }
}

#[test]
fn several_kinds_share_the_budget_and_counts_go_with_a_share() {
    let spec = gpt_oss_20b();
    let scores = scores(&spec, 2);
    let units = [Unit::Head, Unit::Expert, Unit::ExpertChannel];
    let mut asked = PlanRequest { storage: Storage::mxfp4_experts(), ..request(0.7, &units) };
    let budget = (0.7 * spec.parameters() as f64) as u64;
    let together = plan(&scores, &spec, &asked).unwrap();
    let step = 32 * 24 * 32 * (3 * 2880 + 2);
    assert!(together.after.parameters <= budget && budget - together.after.parameters < step);
    asked.units = vec![Unit::ExpertChannel];
    asked.target.counts = [(Unit::Head, Count::Uniform(56)), (Unit::Expert, Count::Uniform(28))].into();
    let pruned = plan(&scores, &spec, &asked).unwrap().apply_to(&spec).unwrap();
    let layer = &pruned.layers[0];
    assert_eq!((layer.heads, layer.experts.unwrap().count), (56, 28));
    assert!(layer.ffn_size < 2880 && pruned.parameters() <= budget && budget - pruned.parameters() < step);
}

/// The indices that stay of the lowest-numbered kind of thing, by score.
fn best(scores: &[f64], keep: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(keep);
    order.sort_unstable();
    order
}

#[test]
fn experts_and_groups_stay_by_their_scores() {
    let spec = small_gpt_oss();
    let scores = scores(&spec, 3);
    let plan =
        plan(&scores, &spec, &counted([(Unit::Expert, 5), (Unit::KvGroup, 3), (Unit::Head, 3)])).unwrap();
    for (layer, entry) in plan.layers.iter().enumerate() {
        let of = |unit: Unit| &scores.get(unit).unwrap()[layer];
        assert_eq!(entry.experts.as_ref().unwrap().kept(), best(of(Unit::Expert), 5));
        assert_eq!(entry.kv_groups.kept(), best(of(Unit::KvGroup), 3));
        let heads = entry.kept_heads();
        assert_eq!(heads.len(), 3);
        for (head, group) in heads.iter().zip(entry.kv_groups.kept()) {
            let other = if head % 2 == 0 { head + 1 } else { head - 1 };
            assert_eq!(head / 2, group);
            assert!(of(Unit::Head)[*head] >= of(Unit::Head)[other]);
        }
    }
}

#[test]
fn channels_stay_by_their_scores_in_each_expert() {
    let spec = small_gpt_oss();
    let scores = scores(&spec, 4);
    let counts = [(Unit::ExpertChannel, 64), (Unit::Expert, 6)];
    let blocks = plan(&scores, &spec, &counted(counts)).unwrap();
    let mut single = counted(counts);
    single.constraints.lossless = false;
    let single = plan(&scores, &spec, &single).unwrap();
    for (layer, (blocks, single)) in blocks.layers.iter().zip(&single.layers).enumerate() {
        let of_layer = &scores.get(Unit::ExpertChannel).unwrap()[layer];
        let experts: Vec<usize> = blocks.expert_channels.iter().map(|entry| entry.expert).collect();
        assert_eq!(experts, blocks.experts.as_ref().unwrap().kept());
        for (blocks, single) in blocks.expert_channels.iter().zip(&single.expert_channels) {
            let scores = &of_layer[blocks.expert * 128..(blocks.expert + 1) * 128];
            let sums: Vec<f64> = scores.chunks(32).map(|block| block.iter().sum()).collect();
            let kept: Vec<usize> =
                best(&sums, 2).into_iter().flat_map(|block| block * 32..block * 32 + 32).collect();
            assert_eq!(blocks.channels.kept(), kept);
            assert_eq!(single.channels.kept(), best(scores, 64));
        }
    }
    assert_ne!(blocks.layers[0].expert_channels[0], blocks.layers[0].expert_channels[1]);
}

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
fn dense_models_lose_layers_and_groups_too() {
    let spec = llama(6, 64, 8, 4, 64);
    assert_eq!(spec.architecture, Architecture::Llama);
    let scores = scores(&spec, 7);
    let asked = PlanRequest {
        target: Target::counts([(Unit::Layer, 3), (Unit::KvGroup, 2), (Unit::FfnChannel, 32)]),
        ..request(1.0, &[])
    };
    let plan = plan(&scores, &spec, &asked).unwrap();
    let pruned = plan.apply_to(&spec).unwrap();
    assert_eq!((pruned.layers.len(), pruned.layers[0].kv_heads, pruned.layers[0].heads), (3, 2, 4));
    let layers: Vec<f64> = scores.get(Unit::Layer).unwrap().iter().map(|scores| scores[0]).collect();
    assert_eq!(plan.kept_layers(), best(&layers, 3));
    // Three groups would be six heads, which do not divide the hidden size.
    let asked = PlanRequest { target: Target::counts([(Unit::KvGroup, 3)]), ..request(1.0, &[]) };
    let error = espalier_pruning::plan(&scores, &spec, &asked).unwrap_err().to_string();
    assert_eq!(
        error,
        "6 query heads are kept, but HF transformers needs a divisor of the hidden size 64; the layout \"espalier\" \
         permits it, for this program alone"
    );
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
