//! The guest `activation-norm` against a plain computation of its formula.

use std::sync::Arc;

use espalier_components::{ComponentError, Probe, ScoredUnit, ScoringInputs, Trace, Unit};
use espalier_kernels::Tensor;

use crate::guests::{facts, host, policy};

/// Values that look random and are the same in every run.
fn activations(seed: u32, tokens: usize, columns: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (f64::from(state) / f64::from(u32::MAX) - 0.5) as f32 * 8.0
    };
    (0..tokens * columns).map(|_| next()).collect()
}

fn trace(probe: Probe, tokens: usize, values: &[f32]) -> Trace {
    let shape = vec![tokens, values.len() / tokens];
    Trace { probe, values: Arc::new(Tensor::new(shape, values.to_vec()).unwrap()) }
}

/// s_c = sqrt( Σ_sequences (mean_t |a_c|)² ), in f64.
fn channel_norms(sequences: &[(usize, Vec<f32>)], columns: usize) -> Vec<f64> {
    let mean = |(tokens, values): &(usize, Vec<f32>), column: usize| {
        values.chunks(columns).map(|row| f64::from(row[column].abs())).sum::<f64>() / *tokens as f64
    };
    (0..columns)
        .map(|column| sequences.iter().map(|sequence| mean(sequence, column).powi(2)).sum::<f64>().sqrt())
        .collect()
}

fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{found} instead of {expected}");
    }
}

#[test]
fn scores_are_those_of_the_formula() {
    let host = host();
    let policy = policy(&host, "activation-norm");
    let mut job = policy
        .begin(ScoringInputs::new(facts("llama")), &[Unit::Head, Unit::KvGroup, Unit::FfnChannel])
        .unwrap();
    let lengths = [5, 17, 1];
    let sequence = |layer: u32, columns: usize| -> Vec<(usize, Vec<f32>)> {
        let seed = |index: usize| layer * 100 + u32::try_from(index * columns).unwrap();
        lengths.iter().enumerate().map(|(i, t)| (*t, activations(seed(i), *t, columns))).collect()
    };
    for (index, tokens) in lengths.iter().enumerate() {
        for layer in 0..2_u32 {
            let heads = trace(Probe::HeadOutput, *tokens, &sequence(layer, 8)[index].1);
            let channels = trace(Probe::FfnActivation, *tokens, &sequence(layer, 6)[index].1);
            job.observe(layer as usize, &[heads, channels]).unwrap();
        }
    }
    for layer in 0..2_u32 {
        let heads: Vec<f64> = channel_norms(&sequence(layer, 8), 8)
            .chunks(2)
            .map(|head| head.iter().map(|norm| norm * norm).sum::<f64>().sqrt())
            .collect();
        assert_close(&job.scores(layer as usize, Unit::Head).unwrap(), &heads);
        let groups: Vec<f64> = heads.chunks(2).map(|group| group.iter().sum()).collect();
        assert_close(&job.scores(layer as usize, Unit::KvGroup).unwrap(), &groups);
        let channels = channel_norms(&sequence(layer, 6), 6);
        assert_close(&job.scores(layer as usize, Unit::FfnChannel).unwrap(), &channels);
    }
}

#[test]
fn only_the_probes_of_the_wanted_units_are_asked_for() {
    let host = host();
    let policy = policy(&host, "activation-norm");
    assert_eq!(policy.identity().to_string(), "activation-norm@0.1.0");
    assert_eq!(
        policy.units(),
        [
            ScoredUnit { unit: Unit::Head, probes: vec![Probe::HeadOutput], ablation: false },
            ScoredUnit { unit: Unit::KvGroup, probes: vec![Probe::HeadOutput], ablation: false },
            ScoredUnit { unit: Unit::FfnChannel, probes: vec![Probe::FfnActivation], ablation: false },
        ]
    );
    assert_eq!(policy.probes(&[Unit::FfnChannel]).unwrap(), [Probe::FfnActivation]);
    let mut job = policy.begin(ScoringInputs::new(facts("llama")), &[Unit::Head]).unwrap();
    job.observe(0, &[trace(Probe::HeadOutput, 1, &[1.0; 8])]).unwrap();
    assert_close(&job.scores(0, Unit::Head).unwrap(), &[std::f64::consts::SQRT_2; 4]);
}

#[test]
fn what_it_cannot_do_is_said() {
    let host = host();
    let policy = policy(&host, "activation-norm");
    let error = policy.begin(ScoringInputs::new(facts("llama")), &[Unit::Expert]).err().unwrap();
    assert_eq!(
        error.to_string(),
        "activation-norm@0.1.0 does not score the unit \"expert\", it scores head, kv-group, ffn-channel"
    );
    let mut job = policy.begin(ScoringInputs::new(facts("llama")), &[Unit::Head]).unwrap();
    let error = job.observe(0, &[trace(Probe::FfnActivation, 1, &[1.0; 6])]).unwrap_err();
    assert!(
        matches!(&error, ComponentError::Guest { message, .. } if message.contains("head-output")),
        "{error}"
    );
    let error = job.scores(1, Unit::Head).unwrap_err();
    assert_eq!(error.to_string(), "activation-norm@0.1.0 refused \"scores\": layer 1 was never observed");
    let error = job.observe(2, &[]).unwrap_err();
    assert!(error.to_string().contains("layer 2 of a model with 2 layers"), "{error}");
    let error = job.scores(0, Unit::FfnChannel).unwrap_err();
    assert!(error.to_string().contains("was not begun for the unit"), "{error}");
}

#[test]
fn jobs_do_not_see_each_other() {
    let host = host();
    let policy = policy(&host, "activation-norm");
    let begin = || policy.begin(ScoringInputs::new(facts("llama")), &[Unit::Head]).unwrap();
    let (mut one, mut two) = (begin(), begin());
    one.observe(0, &[trace(Probe::HeadOutput, 1, &[3.0; 8])]).unwrap();
    two.observe(0, &[trace(Probe::HeadOutput, 1, &[4.0; 8])]).unwrap();
    assert_close(&one.scores(0, Unit::Head).unwrap(), &[18_f64.sqrt(); 4]);
    assert_close(&two.scores(0, Unit::Head).unwrap(), &[32_f64.sqrt(); 4]);
}
