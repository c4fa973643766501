//! Plans for gpt-oss and dense models: exact counts, shares, and who stays.

use espalier_model::Architecture;
use espalier_pruning::{Count, NumberFormat, PlanRequest, Size, Storage, Target, Unit, plan};

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
}
