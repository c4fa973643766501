//! What every plan holds to.

use espalier_evaluation::unit_parameters;
use espalier_model::ModelSpec;
use espalier_pruning::{Constraints, LayerPlan, Plan, PruningError, Scores, Selection, Unit, plan};

use crate::specs::{llama, numbers, request, scores, smollm2};

const BOTH: [Unit; 2] = [Unit::Head, Unit::FfnChannel];

/// The channels of a dense layer.
fn channels(entry: &LayerPlan) -> &Selection {
    entry.ffn_channels.as_ref().unwrap()
}

/// Parameters of one step of channels in all layers.
fn channel_step(spec: &ModelSpec, constraints: &Constraints) -> u64 {
    let channel = unit_parameters(spec, &spec.layers[0], Unit::FfnChannel).unwrap();
    channel * constraints.ffn_channel_multiple as u64 * spec.layers.len() as u64
}

#[test]
fn the_target_is_met_within_one_step_of_channels() {
    let spec = smollm2();
    let scores = scores(&spec, 1);
    for percent in 35..=100 {
        let keep = f64::from(percent) / 100.0;
        let request = request(keep, &BOTH);
        let plan = plan(&scores, &spec, &request).unwrap();
        let budget = (keep * plan.before.parameters as f64).round() as u64;
        assert!(plan.after.parameters <= budget, "{percent} %: {} > {budget}", plan.after.parameters);
        assert!(budget - plan.after.parameters < channel_step(&spec, &request.constraints), "{percent} %");
    }
}

#[test]
fn a_plan_predicts_the_size_of_what_it_leaves() {
    let spec = smollm2();
    let plan = plan(&scores(&spec, 2), &spec, &request(0.75, &BOTH)).unwrap();
    let pruned = plan.apply_to(&spec).unwrap();
    assert_eq!(plan.before.parameters, spec.parameters());
    assert_eq!(plan.after.parameters, pruned.parameters());
    assert_eq!(plan.after.bytes, 2 * pruned.parameters());
    assert!(plan.after.flops_per_token < plan.before.flops_per_token);
}

#[test]
fn smollm2_has_its_known_size() {
    assert_eq!(smollm2().parameters(), 134_515_008);
}

#[test]
fn every_group_keeps_as_many_heads_and_its_best_ones() {
    let spec = llama(3, 96, 12, 3, 64);
    let scores = scores(&spec, 3);
    let plan = plan(&scores, &spec, &request(0.9, &[Unit::Head])).unwrap();
    for (layer, entry) in plan.layers.iter().enumerate() {
        let kept = entry.heads.kept();
        let layer_scores = &scores.get(Unit::Head).unwrap()[layer];
        for group in 0..3 {
            let range = group * 4..group * 4 + 4;
            let inside: Vec<usize> = kept.iter().copied().filter(|head| range.contains(head)).collect();
            assert_eq!(inside.len() * 3, kept.len());
            let worst_kept = inside.iter().map(|&head| layer_scores[head]).fold(f64::INFINITY, f64::min);
            let removed = range.filter(|head| !inside.contains(head));
            let best_removed = removed.map(|head| layer_scores[head]).fold(f64::NEG_INFINITY, f64::max);
            assert!(worst_kept >= best_removed);
        }
    }
}

#[test]
fn the_channels_that_stay_are_the_best_of_their_layer() {
    let spec = llama(2, 64, 4, 4, 160);
    let scores = scores(&spec, 4);
    let plan = plan(&scores, &spec, &request(0.8, &[Unit::FfnChannel])).unwrap();
    for (layer, entry) in plan.layers.iter().enumerate() {
        let scores = &scores.get(Unit::FfnChannel).unwrap()[layer];
        let kept = channels(entry).kept();
        let worst_kept = kept.iter().map(|&channel| scores[channel]).fold(f64::INFINITY, f64::min);
        assert!(channels(entry).removed.iter().all(|&channel| scores[channel] <= worst_kept));
        assert!(kept.len().is_multiple_of(32) && kept.len() < 160);
    }
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let spec = smollm2();
    let make = || plan(&scores(&spec, 5), &spec, &request(0.7, &BOTH)).unwrap().to_json().unwrap();
    assert_eq!(make(), make());
}

#[test]
fn the_order_and_repetition_of_units_do_not_matter() {
    let spec = smollm2();
    let scores = scores(&spec, 6);
    let forward = plan(&scores, &spec, &request(0.8, &BOTH)).unwrap();
    let other = [Unit::FfnChannel, Unit::Head, Unit::FfnChannel];
    assert_eq!(plan(&scores, &spec, &request(0.8, &other)).unwrap(), forward);
}

#[test]
fn equal_scores_keep_the_first_units() {
    let spec = llama(1, 64, 4, 2, 96);
    let mut scores = Scores::new();
    scores.insert(Unit::Head, vec![vec![1.0; 4]]);
    scores.insert(Unit::FfnChannel, vec![vec![1.0; 96]]);
    let plan = plan(&scores, &spec, &request(0.7, &BOTH)).unwrap();
    let channels = channels(&plan.layers[0]);
    assert_eq!(channels.kept(), (0..channels.kept_count()).collect::<Vec<_>>());
}

#[test]
fn keeping_everything_removes_nothing() {
    let spec = smollm2();
    let plan = plan(&scores(&spec, 7), &spec, &request(1.0, &BOTH)).unwrap();
    assert!(plan.is_unchanged());
    assert_eq!(plan.before, plan.after);
}

#[test]
fn a_kind_that_was_not_named_stays_whole() {
    let spec = smollm2();
    let scores = scores(&spec, 8);
    let channels_only = plan(&scores, &spec, &request(0.8, &[Unit::FfnChannel])).unwrap();
    assert!(channels_only.layers.iter().all(|layer| layer.heads.removed.is_empty()));
    let heads_only = plan(&scores, &spec, &request(0.96, &[Unit::Head])).unwrap();
    assert!(heads_only.layers.iter().all(|layer| channels(layer).removed.is_empty()));
    assert!(heads_only.layers.iter().all(|layer| layer.heads.kept_count() == 6));
}

#[test]
fn cheap_heads_go_before_dear_channels() {
    let spec = llama(2, 64, 8, 2, 256);
    let with = |head: f64, channel: f64| {
        // One unit of each kind is worth nothing, the rest `head` or `channel` of the best.
        let ranked = |count: usize, worth: f64| -> Vec<f64> {
            (0..count).map(|index| if index % 4 == 0 { 1.0 } else { worth }).collect()
        };
        let mut scores = Scores::new();
        scores.insert(Unit::Head, vec![ranked(8, head); 2]);
        scores.insert(Unit::FfnChannel, vec![ranked(256, channel); 2]);
        plan(&scores, &spec, &request(0.85, &BOTH)).unwrap()
    };
    let cheap_heads = with(0.001, 1.0);
    let cheap_channels = with(1.0, 0.001);
    assert!(cheap_heads.layers[0].heads.kept_count() < cheap_channels.layers[0].heads.kept_count());
    assert_eq!(cheap_channels.layers[0].heads.kept_count(), 8);
}

#[test]
fn an_impossible_target_is_refused_with_the_reachable_range() {
    let spec = smollm2();
    let error = plan(&scores(&spec, 9), &spec, &request(0.2, &BOTH)).unwrap_err();
    let PruningError::TargetUnreachable { lowest, .. } = error else { panic!("{error}") };
    assert!(lowest > 0.2);
    let reachable = plan(&scores(&spec, 9), &spec, &request(lowest + 1e-6, &BOTH)).unwrap();
    assert_eq!(channels(&reachable.layers[0]).kept_count(), 32);
    assert_eq!(reachable.layers[0].heads.kept_count(), 3);
    let heads_only = plan(&scores(&spec, 9), &spec, &request(0.9, &[Unit::Head])).unwrap_err().to_string();
    assert_eq!(
        heads_only,
        "keep 0.9000 cannot be reached by removing head: within the constraints, this model can keep between 0.9013 \
         and 1 of its parameters"
    );
}

#[test]
fn a_share_outside_its_range_is_refused() {
    let spec = smollm2();
    for keep in [0.0, -0.5, 1.01, f64::NAN, f64::INFINITY] {
        let error = plan(&scores(&spec, 10), &spec, &request(keep, &BOTH)).unwrap_err();
        assert!(matches!(error, PruningError::KeepOutOfRange { .. }), "{keep}: {error}");
    }
}

#[test]
fn scores_that_cannot_be_ranked_are_refused() {
    let spec = llama(2, 64, 4, 2, 64);
    let broken = |unit: Unit, layer: usize, values: Vec<f64>| {
        let good = scores(&spec, 11);
        let mut layers = good.get(unit).unwrap().to_vec();
        layers[layer] = values;
        let mut bad = good;
        bad.insert(unit, layers);
        plan(&bad, &spec, &request(0.9, &BOTH)).unwrap_err().to_string()
    };
    let mut not_finite = vec![1.0; 4];
    not_finite[2] = f64::NAN;
    assert_eq!(
        broken(Unit::Head, 1, not_finite),
        "the score of head 2 in layer 1 is NaN; expected a finite number"
    );
    assert_eq!(
        broken(Unit::FfnChannel, 0, vec![1.0; 63]),
        "scores of ffn-channel in layer 0 have 63 entries; expected 64"
    );
    let mut without = Scores::new();
    without.insert(Unit::Head, vec![vec![1.0; 4]; 2]);
    let error = plan(&without, &spec, &request(0.9, &BOTH)).unwrap_err();
    assert!(matches!(error, PruningError::ScoresMissing { unit: Unit::FfnChannel }));
}

#[test]
fn units_that_a_model_does_not_have_are_refused_by_name() {
    let spec = smollm2();
    for unit in [Unit::Expert, Unit::ExpertChannel] {
        let error = plan(&scores(&spec, 12), &spec, &request(0.8, &[unit])).unwrap_err().to_string();
        let expected = format!(
            "a llama model has no units of the kind \"{unit}\" that can be cut; it can lose: layer, head, kv-group, \
             ffn-channel"
        );
        assert_eq!(error, expected);
    }
    assert!(matches!(
        plan(&scores(&spec, 12), &spec, &request(0.8, &[])).unwrap_err(),
        PruningError::NoUnits
    ));
}

#[test]
fn layers_that_differ_are_refused() {
    let mut spec = llama(2, 64, 4, 2, 64);
    spec.layers[1].ffn_size = 96;
    let error = plan(&scores(&spec, 13), &spec, &request(0.8, &BOTH)).unwrap_err().to_string();
    assert_eq!(
        error,
        "layer 1 has 96 feed-forward channels and layer 0 has 64; plans need the same count in every layer"
    );
}

#[test]
fn odd_shapes_keep_allowed_counts_only() {
    let mut next = numbers(14);
    for _ in 0..200 {
        let mut pick = |from: usize, to: usize| from + (next() * (to - from + 1) as f64) as usize;
        let (kv_heads, group) = (pick(1, 4), pick(1, 5));
        let spec = llama(pick(1, 4), 8 * pick(1, 12), kv_heads * group, kv_heads, pick(1, 200));
        let keep = pick(10, 100) as f64 / 100.0;
        let mut request = request(keep, &BOTH);
        request.constraints.ffn_channel_multiple = pick(1, 40);
        match plan(&scores(&spec, 15), &spec, &request) {
            Ok(plan) => check_counts(&spec, &plan, &request.constraints),
            Err(PruningError::TargetUnreachable { lowest, .. }) => assert!(lowest > keep),
            Err(PruningError::LoaderRule { .. }) => assert!(keep < 1.0, "no number of heads is allowed"),
            Err(error) => panic!("{error}"),
        }
    }
}

fn check_counts(spec: &ModelSpec, plan: &Plan, constraints: &Constraints) {
    let pruned = plan.apply_to(spec).unwrap();
    let (before, after) = (&spec.layers[0], &pruned.layers[0]);
    assert!(after.heads == before.heads || spec.hidden_size.is_multiple_of(after.heads));
    assert!(after.heads.is_multiple_of(after.kv_heads));
    let channels = after.ffn_size;
    assert!(channels == before.ffn_size || channels.is_multiple_of(constraints.ffn_channel_multiple));
    assert!(after.heads > 0 && channels > 0);
    assert!(pruned.parameters() as f64 <= plan.target.keep.unwrap() * spec.parameters() as f64 + 0.5);
}

#[test]
fn senseless_constraints_are_refused() {
    let spec = smollm2();
    let refused = |change: fn(&mut Constraints)| {
        let mut request = request(0.8, &BOTH);
        change(&mut request.constraints);
        plan(&scores(&spec, 16), &spec, &request).unwrap_err().to_string()
    };
    assert_eq!(
        refused(|c| c.ffn_channel_multiple = 0),
        "constraint ffn_channel_multiple is 0; expected at least 1"
    );
    assert_eq!(
        refused(|c| c.min_heads_per_group = 4),
        "constraint min_heads_per_group is 4; expected between 1 and 3"
    );
}
