//! Draws the next token from logits.
//!
//! Guarantees: with a seed the same logits give the same tokens, whatever else is in the batch, since every sequence has
//! a generator of its own that advances once per sampled token. Ties go to the lower token id.
//!
//! The steps are vLLM's, in its order: bias and penalties, and what may not be drawn ([`LogitAdjustment`]), temperature,
//! then `min_p`, `top_k` and `top_p`, each of what the one before left over. So what a constraint rules out takes no part
//! in the cuts: the others are drawn as if there were no more.

use std::cmp::Ordering;
use std::hash::{BuildHasher, Hasher, RandomState};

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};

use crate::logit_adjustment::{Eligible, LogitAdjustment};
use crate::sampling_params::SamplingParams;

/// Candidates that the nucleus is looked for in first; it grows where they don't reach the mass.
const FIRST_CANDIDATES: usize = 256;

/// One sequence's sampling state.
pub(crate) struct Sampler {
    params: SamplingParams,
    adjustment: LogitAdjustment,
    generator: Pcg64Mcg,
    candidates: Vec<(f32, u32)>,
}

impl Sampler {
    /// At the end of `prompt`.
    pub(crate) fn new(params: SamplingParams, prompt: &[u32]) -> Self {
        // Without a seed the standard library's hash keys serve as entropy: sampling needs variety, not secrecy.
        let seed = params.seed().unwrap_or_else(|| RandomState::new().build_hasher().finish());
        let adjustment = LogitAdjustment::new(&params, prompt);
        Self { params, adjustment, generator: Pcg64Mcg::seed_from_u64(seed), candidates: Vec::new() }
    }

    /// The next token for `logits` `[vocab_size]`, one of those that are `eligible`.
    pub(crate) fn sample(&mut self, logits: &[f32], eligible: Eligible<'_>) -> u32 {
        let token = self.draw(logits, eligible);
        self.adjustment.note(token);
        token
    }

    fn draw(&mut self, logits: &[f32], eligible: Eligible<'_>) -> u32 {
        let logits = self.adjustment.apply(logits, eligible);
        let (best, maximum) = argmax(logits);
        if self.params.temperature() == 0.0 {
            return best;
        }
        let inverse_temperature = 1.0 / self.params.temperature();
        // The most probable token has weight 1, so `min_p` is a bound on weights.
        let least = self.params.min_p();
        self.candidates.clear();
        self.candidates.extend(
            logits
                .iter()
                .zip(0u32..)
                .map(|(logit, token)| (((logit - maximum) * inverse_temperature).exp(), token))
                .filter(|(weight, _)| *weight >= least),
        );
        self.keep_top_k();
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

    /// Drops all but the `top_k` most probable candidates.
    fn keep_top_k(&mut self) {
        let top_k = self.params.top_k();
        if top_k > 0 && top_k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(top_k, by_probability);
            self.candidates.truncate(top_k);
            // In the order of the ids, so that what is drawn depends on nothing else than which are kept.
            self.candidates.sort_unstable_by_key(|(_, token)| *token);
        }
    }

    /// Sorts the nucleus (the most probable tokens whose mass reaches `top_p`) to the front; returns its size.
    fn keep_nucleus(&mut self) -> usize {
        let all = self.candidates.len();
        if self.params.top_p() >= 1.0 {
            return all;
        }
        let total: f64 = self.candidates.iter().map(|(weight, _)| f64::from(*weight)).sum();
        let wanted = f64::from(self.params.top_p()) * total;
        let mut front = FIRST_CANDIDATES.min(all);
        loop {
            if front < all {
                self.candidates.select_nth_unstable_by(front, by_probability);
            }
            self.candidates[..front].sort_unstable_by(by_probability);
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

/// The more probable first, of equals the one with the lower id.
fn by_probability(a: &(f32, u32), b: &(f32, u32)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// The first of the greatest logits, and its token.
pub(crate) fn argmax(logits: &[f32]) -> (u32, f32) {
    logits.iter().zip(0u32..).fold((0, f32::NEG_INFINITY), |(best, maximum), (&logit, token)| {
        if logit > maximum { (token, logit) } else { (best, maximum) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constraint::AllowedTokens;
    use crate::sampling_params::Penalties;

    const ALL: Eligible<'_> = Eligible::AllBut(&[]);

    fn params(temperature: f32, top_p: f32, seed: u64) -> SamplingParams {
        SamplingParams::new(temperature, top_p, Some(seed)).unwrap()
    }

    fn sampler(temperature: f32, top_p: f32, seed: u64) -> Sampler {
        Sampler::new(params(temperature, top_p, seed), &[])
    }

    /// Draws for `probabilities` and compares how often each token comes with `expected` shares.
    #[track_caller]
    fn assert_shares(params: SamplingParams, probabilities: &[f32], expected: &[f64]) {
        assert_eligible_shares(params, probabilities, ALL, expected);
    }

    #[track_caller]
    fn assert_eligible_shares(
        params: SamplingParams,
        probabilities: &[f32],
        eligible: Eligible<'_>,
        expected: &[f64],
    ) {
        const DRAWS: u32 = 20_000;
        let logits: Vec<f32> = probabilities.iter().map(|p| p.ln()).collect();
        let mut sampler = Sampler::new(params, &[]);
        let mut counts = vec![0u32; expected.len()];
        for _ in 0..DRAWS {
            counts[sampler.sample(&logits, eligible) as usize] += 1;
        }
        for (count, share) in counts.iter().zip(expected) {
            let expected = share * f64::from(DRAWS);
            assert!((f64::from(*count) - expected).abs() <= 5.0 * expected.sqrt(), "{counts:?}");
        }
    }

    #[test]
    fn greedy_takes_the_first_maximum() {
        assert_eq!(sampler(0.0, 1.0, 0).sample(&[0.0, 3.0, 3.0, -1.0], ALL), 1);
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        assert_shares(params(1.0, 1.0, 7), &[0.1, 0.2, 0.3, 0.4], &[0.1, 0.2, 0.3, 0.4]);
    }

    #[test]
    fn temperature_raises_probabilities_to_its_inverse() {
        // The square roots of 0.01, 0.04, 0.09 and 0.16 are as 1 : 2 : 3 : 4.
        assert_shares(params(2.0, 1.0, 7), &[0.01, 0.04, 0.09, 0.16], &[0.1, 0.2, 0.3, 0.4]);
    }

    #[test]
    fn top_k_keeps_the_most_probable_and_of_equals_the_lower_ids() {
        let (third, half) = (1.0 / 3.0, 0.5);
        let probabilities = [0.1, 0.2, 0.3, 0.2, 0.2];
        assert_shares(params(1.0, 1.0, 7).with_top_k(2), &probabilities, &[0.0, 0.4, 0.6, 0.0, 0.0]);
        assert_shares(params(1.0, 1.0, 7).with_top_k(1), &probabilities, &[0.0, 0.0, 1.0, 0.0, 0.0]);
        assert_shares(params(1.0, 1.0, 7).with_top_k(9), &[0.25, 0.5, 0.25], &[0.25, half, 0.25]);
        // The nucleus is of what is left: 0.3 of 0.3 + 0.2 + 0.2 is less than half, 0.5 is more.
        let both = params(1.0, 0.5, 7).with_top_k(4);
        assert_shares(both, &[0.1, 0.3, 0.2, 0.2, 0.2], &[0.0, 0.6, 0.4, 0.0, 0.0]);
        assert_shares(params(1.0, 1.0, 7).with_top_k(3), &[0.1; 5], &[third, third, third, 0.0, 0.0]);
    }

    #[test]
    fn min_p_is_relative_to_the_most_probable() {
        let params = params(1.0, 1.0, 7).with_min_p(0.45).unwrap();
        assert_shares(params, &[0.1, 0.2, 0.3, 0.4], &[0.0, 2.0 / 9.0, 3.0 / 9.0, 4.0 / 9.0]);
    }

    #[test]
    fn bias_and_penalties_shift_the_distribution() {
        let biased = params(1.0, 1.0, 7).with_logit_bias(vec![(0, 4f32.ln()), (3, -100.0)]).unwrap();
        assert_shares(biased, &[0.1, 0.2, 0.4, 0.3], &[0.4, 0.2, 0.4, 0.0]);
        let penalties = Penalties { presence: 2.0, ..Penalties::NONE };
        let greedy = SamplingParams::greedy().with_penalties(penalties).unwrap();
        let mut sampler = Sampler::new(greedy, &[0]);
        let logits = [3.0, 2.0, 0.5];
        assert_eq!([0; 4].map(|_| sampler.sample(&logits, ALL)), [0, 1, 0, 0]);
    }

    #[test]
    fn what_is_allowed_is_drawn_as_if_there_were_no_more() {
        let probabilities = [0.5, 0.1, 0.2, 0.2];
        let allowed = AllowedTokens::of(4, &[1, 2, 3]);
        let only = Eligible::Only(&allowed);
        assert_eligible_shares(params(1.0, 1.0, 7), &probabilities, only, &[0.0, 0.2, 0.4, 0.4]);
        // The cuts too are of what is allowed.
        assert_eligible_shares(
            params(1.0, 1.0, 7).with_top_k(2),
            &probabilities,
            only,
            &[0.0, 0.0, 0.5, 0.5],
        );
        assert_eligible_shares(params(1.0, 0.3, 7), &probabilities, only, &[0.0, 0.0, 1.0, 0.0]);
        assert_eq!(sampler(0.0, 1.0, 0).sample(&[3.0, 2.0, 1.0, 2.0], only), 1);
    }

    #[test]
    fn nucleus_excludes_the_tail_even_when_it_is_wide() {
        let vocab = 5000;
        let logits: Vec<f32> = (0..vocab).map(|i| -(i as f32) * 1e-4).collect();
        let mut sampler = sampler(1.0, 0.5, 3);
        let largest = (0..2000).map(|_| sampler.sample(&logits, ALL)).max().unwrap();
        // Half of the mass of exp(-i·1e-4) over 0..5000 ends near token 2197.
        assert!((2000..2300).contains(&largest), "{largest}");
    }

    #[test]
    fn same_seed_same_tokens() {
        let logits: Vec<f32> = (0..300).map(|i| ((i * 37) % 101) as f32 / 20.0).collect();
        let draw = |seed| {
            let mut sampler = sampler(1.3, 0.9, seed);
            (0..50).map(|_| sampler.sample(&logits, ALL)).collect::<Vec<_>>()
        };
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
    }
}
