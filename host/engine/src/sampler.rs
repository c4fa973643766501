//! Draws the next token from logits.
//!
//! Guarantees: with a seed the same logits give the same tokens, whatever else is in the batch, since every sequence has
//! a generator of its own that advances once per sampled token. Ties go to the lower token id.

use std::hash::{BuildHasher, Hasher, RandomState};

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};

use crate::request::SamplingParams;

/// Candidates that the nucleus is looked for in first; it grows where they don't reach the mass.
const FIRST_CANDIDATES: usize = 256;

/// One sequence's sampling state.
pub(crate) struct Sampler {
    params: SamplingParams,
    generator: Pcg64Mcg,
    candidates: Vec<(f32, u32)>,
}

impl Sampler {
    pub(crate) fn new(params: SamplingParams) -> Self {
        // Without a seed the standard library's hash keys serve as entropy: sampling needs variety, not secrecy.
        let seed = params.seed().unwrap_or_else(|| RandomState::new().build_hasher().finish());
        Self { params, generator: Pcg64Mcg::seed_from_u64(seed), candidates: Vec::new() }
    }

    /// The next token for `logits` `[vocab_size]`.
    pub(crate) fn sample(&mut self, logits: &[f32]) -> u32 {
        let (best, maximum) = argmax(logits);
        if self.params.temperature() == 0.0 {
            return best;
        }
        let inverse_temperature = 1.0 / self.params.temperature();
        self.candidates.clear();
        self.candidates.extend(
            logits
                .iter()
                .zip(0u32..)
                .map(|(logit, token)| (((logit - maximum) * inverse_temperature).exp(), token)),
        );
        let kept = self.keep_nucleus();
        let mass: f64 = self.candidates[..kept].iter().map(|(weight, _)| f64::from(*weight)).sum();
        // 53 random bits: every value is exactly representable and below 1.
        let uniform = (self.generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut remaining = uniform * mass;
        for &(weight, token) in &self.candidates[..kept] {
            remaining -= f64::from(weight);
            if remaining < 0.0 {
                return token;
            }
        }
        best
    }

    /// Sorts the nucleus (the most probable tokens whose mass reaches `top_p`) to the front; returns its size.
    fn keep_nucleus(&mut self) -> usize {
        let all = self.candidates.len();
        if self.params.top_p() >= 1.0 {
            return all;
        }
        let total: f64 = self.candidates.iter().map(|(weight, _)| f64::from(*weight)).sum();
        let wanted = f64::from(self.params.top_p()) * total;
        let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let mut front = FIRST_CANDIDATES.min(all);
        loop {
            if front < all {
                self.candidates.select_nth_unstable_by(front, order);
            }
            self.candidates[..front].sort_unstable_by(order);
            let mut mass = 0.0;
            for (index, (weight, _)) in self.candidates[..front].iter().enumerate() {
                mass += f64::from(*weight);
                if mass >= wanted {
                    return index + 1;
                }
            }
            if front == all {
                return all;
            }
            front = (front * 8).min(all);
        }
    }
}

fn argmax(logits: &[f32]) -> (u32, f32) {
    logits.iter().zip(0u32..).fold((0, f32::NEG_INFINITY), |(best, maximum), (&logit, token)| {
        if logit > maximum { (token, logit) } else { (best, maximum) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(temperature: f32, top_p: f32, seed: u64) -> Sampler {
        Sampler::new(SamplingParams::new(temperature, top_p, Some(seed)).unwrap())
    }

    #[test]
    fn greedy_takes_the_first_maximum() {
        assert_eq!(sampler(0.0, 1.0, 0).sample(&[0.0, 3.0, 3.0, -1.0]), 1);
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let logits: Vec<f32> = [0.1f32, 0.2, 0.3, 0.4].iter().map(|p| p.ln()).collect();
        let mut sampler = sampler(1.0, 1.0, 7);
        let mut counts = [0u32; 4];
        for _ in 0..20_000 {
            counts[sampler.sample(&logits) as usize] += 1;
        }
        for (count, expected) in counts.iter().zip([2000.0, 4000.0, 6000.0, 8000.0]) {
            assert!((f64::from(*count) - expected).abs() < 5.0 * f64::sqrt(expected), "{counts:?}");
        }
    }

    #[test]
    fn nucleus_excludes_the_tail_even_when_it_is_wide() {
        let vocab = 5000;
        let logits: Vec<f32> = (0..vocab).map(|i| -(i as f32) * 1e-4).collect();
        let mut sampler = sampler(1.0, 0.5, 3);
        let largest = (0..2000).map(|_| sampler.sample(&logits)).max().unwrap();
        // Half of the mass of exp(-i·1e-4) over 0..5000 ends near token 2197.
        assert!((2000..2300).contains(&largest), "{largest}");
    }

    #[test]
    fn same_seed_same_tokens() {
        let logits: Vec<f32> = (0..300).map(|i| ((i * 37) % 101) as f32 / 20.0).collect();
        let draw = |seed| {
            let mut sampler = sampler(1.3, 0.9, seed);
            (0..50).map(|_| sampler.sample(&logits)).collect::<Vec<_>>()
        };
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
    }
}
