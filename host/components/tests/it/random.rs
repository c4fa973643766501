//! The guest `random`: a control that needs to see nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use espalier_components::{LayerFacts, ModelFacts, ScoringInputs, Unit};

use crate::guests::{facts, host, policy};

/// A mixture: two layers of 4 heads in 2 groups, 3 experts of 5 channels.
fn mixture() -> Arc<ModelFacts> {
    let mut facts = (*facts("gpt_oss")).clone();
    for layer in &mut facts.layers {
        *layer = LayerFacts {
            heads: 4,
            kv_heads: 2,
            ffn_size: 5,
            experts: 3,
            active_experts: 2,
            sliding_window: None,
            attention_sinks: false,
            parameters_per_unit: BTreeMap::new(),
        };
    }
    Arc::new(facts)
}

#[test]
fn every_kind_is_scored_without_probes() {
    let host = host();
    let policy = policy(&host, "random");
    assert!(policy.probes(&Unit::ALL).unwrap().is_empty());
    let units = [Unit::Layer, Unit::Head, Unit::KvGroup, Unit::Expert, Unit::ExpertChannel];
    let mut job = policy.begin(ScoringInputs { seed: 1, ..ScoringInputs::new(mixture()) }, &units).unwrap();
    for (unit, count) in units.into_iter().zip([1, 4, 2, 3, 15]) {
        for layer in 0..2 {
            let scores = job.scores(layer, unit).unwrap();
            assert_eq!(scores.len(), count, "{unit}");
            assert!(scores.iter().all(|score| (0.0..1.0).contains(score)), "{scores:?}");
        }
    }
    let mut dense = policy
        .begin(ScoringInputs { seed: 1, ..ScoringInputs::new(facts("llama")) }, &[Unit::FfnChannel])
        .unwrap();
    assert_eq!(dense.scores(0, Unit::FfnChannel).unwrap().len(), 6);
}

#[test]
fn the_seed_the_layer_and_the_kind_decide() {
    let host = host();
    let policy = policy(&host, "random");
    let draw = |seed: u64, layer: usize, unit: Unit| {
        policy
            .begin(ScoringInputs { seed, ..ScoringInputs::new(mixture()) }, &[unit])
            .unwrap()
            .scores(layer, unit)
            .unwrap()
    };
    let first = draw(1, 0, Unit::ExpertChannel);
    assert_eq!(first, draw(1, 0, Unit::ExpertChannel));
    assert_ne!(first, draw(2, 0, Unit::ExpertChannel));
    assert_ne!(first, draw(1, 1, Unit::ExpertChannel));
    assert_ne!(draw(1, 0, Unit::Head)[..2], draw(1, 0, Unit::KvGroup)[..]);
    let mean = (0..40).flat_map(|seed| draw(seed, 0, Unit::ExpertChannel)).sum::<f64>() / 600.0;
    assert!((0.45..0.55).contains(&mean), "{mean}");
}

#[test]
fn a_kind_that_the_layer_does_not_have_is_refused() {
    let host = host();
    let policy = policy(&host, "random");
    let mut job = policy.begin(ScoringInputs::new(facts("llama")), &[Unit::Expert]).unwrap();
    let error = job.scores(1, Unit::Expert).unwrap_err().to_string();
    assert_eq!(error, "random@0.1.0 refused \"scores\": layer 1 has no unit \"expert\"");
}
