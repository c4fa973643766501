//! Rotary frequencies under every kind of scaling.
//!
//! Formulas as in HF transformers' `modeling_rope_utils.py`, in f64.

#![deny(clippy::indexing_slicing)]

use std::f64::consts::PI;

use crate::spec::{RopeScaling, RopeSpec};

/// Llama 3.1-3.3's published constants, which `rope_freqs.weight` was computed from; the factor varies (8 or 32).
const LLAMA3_LOW: f64 = 1.0;
const LLAMA3_HIGH: f64 = 4.0;
const LLAMA3_ORIGINAL: usize = 8192;

impl RopeScaling {
    /// gpt-oss's YaRN: the ramp isn't rounded, and the factor on cos and sin is the paper's.
    pub(crate) fn gpt_oss(
        factor: f64,
        beta_fast: f64,
        beta_slow: f64,
        original_max_positions: usize,
    ) -> Self {
        let attention_factor = if factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 };
        Self::Yarn { factor, beta_fast, beta_slow, original_max_positions, attention_factor, truncate: false }
    }
}

impl RopeSpec {
    /// The angle by which dimension pair i (i, i + d/2) turns from one position to the next, `head_dim / 2` of them.
    #[must_use]
    pub fn inverse_frequencies(&self, head_dim: usize) -> Vec<f64> {
        let pairs = head_dim / 2;
        let plain = (0..pairs).map(|pair| self.theta.powf(-2.0 * pair as f64 / head_dim as f64));
        match &self.scaling {
            RopeScaling::None => plain.collect(),
            RopeScaling::Linear { factor } => plain.map(|frequency| frequency / factor).collect(),
            RopeScaling::Factors { factors } => {
                plain.zip(factors).map(|(frequency, &factor)| frequency / f64::from(factor)).collect()
            }
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions } => {
                let original = *original_max_positions as f64;
                plain
                    .map(|frequency| {
                        let rotations = original * frequency / (2.0 * PI);
                        let kept = (rotations - low_freq_factor) / (high_freq_factor - low_freq_factor);
                        let kept = kept.clamp(0.0, 1.0);
                        frequency * ((1.0 - kept) / factor + kept)
                    })
                    .collect()
            }
            RopeScaling::Yarn { factor, beta_fast, beta_slow, original_max_positions, truncate, .. } => {
                // The dimension pair that makes this many rotations over the original context.
                let pair_of = |rotations: f64| {
                    let ratio = *original_max_positions as f64 / (rotations * 2.0 * PI);
                    head_dim as f64 * ratio.ln() / (2.0 * self.theta.ln())
                };
                let (mut low, mut high) = (pair_of(*beta_fast), pair_of(*beta_slow));
                if *truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                let low = low.max(0.0);
                let mut high = high.min(head_dim as f64 - 1.0);
                if low == high {
                    high += 0.001;
                }
                plain
                    .enumerate()
                    .map(|(pair, frequency)| {
                        let divided = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
                        frequency / factor * divided + frequency * (1.0 - divided)
                    })
                    .collect()
            }
        }
    }

    /// Factor on cos and sin; 1 but for YaRN.
    #[must_use]
    pub fn attention_factor(&self) -> f64 {
        match &self.scaling {
            RopeScaling::Yarn { attention_factor, .. } => *attention_factor,
            _ => 1.0,
        }
    }

    /// Scaling by listed divisors. Where they are what Llama 3.1's formula gives with its published constants, the
    /// formula is returned: HF's configuration can state it, a list it can't.
    pub(crate) fn from_factors(theta: f64, factors: Vec<f32>) -> Self {
        let largest = f64::from(factors.iter().copied().fold(1.0, f32::max));
        let formula = Self {
            theta,
            scaling: RopeScaling::Llama3 {
                factor: largest,
                low_freq_factor: LLAMA3_LOW,
                high_freq_factor: LLAMA3_HIGH,
                original_max_positions: LLAMA3_ORIGINAL,
            },
        };
        let head_dim = factors.len() * 2;
        let listed = Self { theta, scaling: RopeScaling::Factors { factors } };
        let from_formula = formula.inverse_frequencies(head_dim);
        let from_list = listed.inverse_frequencies(head_dim);
        // The list holds f32.
        let same = from_formula.iter().zip(&from_list).all(|(a, b)| (a - b).abs() <= 1e-6 * a.abs());
        if same { formula } else { listed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yarn_of_gpt_oss_has_the_published_ramp() {
        let rope = RopeSpec { theta: 150_000.0, scaling: RopeScaling::gpt_oss(32.0, 32.0, 1.0, 4096) };
        let frequencies = rope.inverse_frequencies(64);
        let plain = |pair: usize| 150_000.0_f64.powf(-2.0 * pair as f64 / 64.0);
        assert_eq!(frequencies[8], plain(8), "below the ramp's start at 8.0928");
        assert!((frequencies[18] - plain(18) / 32.0).abs() < 1e-15, "above its end at 17.3980");
        let middle = (12.0 - 8.0928) / (17.3980 - 8.0928);
        let expected = plain(12) * (1.0 - middle) + plain(12) / 32.0 * middle;
        assert!((frequencies[12] / expected - 1.0).abs() < 1e-4);
        assert!((rope.attention_factor() - 1.346_573_6).abs() < 1e-7);
    }

    #[test]
    fn llama3_factors_are_recognised_and_others_kept() {
        let scaling = RopeScaling::Llama3 {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_positions: 8192,
        };
        let formula = RopeSpec { theta: 500_000.0, scaling };
        let plain = RopeSpec { theta: 500_000.0, scaling: RopeScaling::None }.inverse_frequencies(64);
        let factors: Vec<f32> = plain
            .iter()
            .zip(formula.inverse_frequencies(64))
            .map(|(plain, scaled)| (plain / scaled) as f32)
            .collect();
        assert_eq!(RopeSpec::from_factors(500_000.0, factors.clone()), formula);
        let mut others = factors;
        others[20] *= 1.5;
        let listed = RopeSpec::from_factors(500_000.0, others.clone());
        assert_eq!(listed.scaling, RopeScaling::Factors { factors: others });
    }
}
