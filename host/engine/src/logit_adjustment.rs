//! Changes logits by what a request wants: a bias for named tokens, and penalties for tokens that were there before; and
//! rules out what may not be drawn.
//!
//! The order is vLLM's: the bias first, then the repetition penalty, then those of frequency and presence.

use std::collections::HashMap;

use crate::constraint::AllowedTokens;
use crate::sampling_params::{Penalties, SamplingParams};

/// Which tokens may be drawn.
#[derive(Clone, Copy)]
pub(crate) enum Eligible<'a> {
    /// All but these.
    AllBut(&'a [u32]),
    /// Those that a constraint allows, of which there is at least one.
    Only(&'a AllowedTokens),
}

/// One sequence's bias and penalties, with what it has said so far.
pub(crate) struct LogitAdjustment {
    bias: Vec<(u32, f32)>,
    penalties: Penalties,
    /// How often each token is in the completion; 0 for those that only the prompt has. Empty without penalties.
    occurrences: HashMap<u32, u32>,
    adjusted: Vec<f32>,
}

impl LogitAdjustment {
    pub(crate) fn new(params: &SamplingParams, prompt: &[u32]) -> Self {
        let penalties = params.penalties();
        let occurrences = if penalties.repetition == 1.0 {
            HashMap::new()
        } else {
            prompt.iter().map(|&token| (token, 0)).collect()
        };
        Self { bias: params.logit_bias().to_vec(), penalties, occurrences, adjusted: Vec::new() }
    }

    /// The adjusted `logits` `[vocab_size]`, with which nothing but `eligible` tokens can be drawn; the given ones where
    /// there is nothing to change.
    pub(crate) fn apply<'a>(&'a mut self, logits: &'a [f32], eligible: Eligible<'_>) -> &'a [f32] {
        let all_eligible = matches!(eligible, Eligible::AllBut([]));
        if self.bias.is_empty() && self.occurrences.is_empty() && all_eligible {
            return logits;
        }
        self.adjusted.clear();
        self.adjusted.extend_from_slice(logits);
        for &(token, bias) in &self.bias {
            if let Some(logit) = self.adjusted.get_mut(token as usize) {
                *logit += bias;
            }
        }
        let Penalties { repetition, presence, frequency } = self.penalties;
        for (&token, &count) in &self.occurrences {
            let Some(logit) = self.adjusted.get_mut(token as usize) else { continue };
            *logit = if *logit > 0.0 { *logit / repetition } else { *logit * repetition };
            *logit -= frequency * count as f32;
            if count > 0 {
                *logit -= presence;
            }
        }
        match eligible {
            Eligible::AllBut(forbidden) => {
                for &token in forbidden {
                    if let Some(logit) = self.adjusted.get_mut(token as usize) {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
            Eligible::Only(allowed) => {
                for (token, logit) in (0..).zip(&mut self.adjusted) {
                    // An allowed token stays above the others, whatever its logit.
                    *logit = if allowed.contains(token) { logit.max(f32::MIN) } else { f32::NEG_INFINITY };
                }
            }
        }
        &self.adjusted
    }

    /// Takes note of a token of the completion.
    pub(crate) fn note(&mut self, token: u32) {
        if self.penalties != Penalties::NONE {
            *self.occurrences.entry(token).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adjusted(params: &SamplingParams, prompt: &[u32], completion: &[u32], logits: &[f32]) -> Vec<f32> {
        let mut adjustment = LogitAdjustment::new(params, prompt);
        for &token in completion {
            adjustment.note(token);
        }
        adjustment.apply(logits, Eligible::AllBut(&[])).to_vec()
    }

    #[test]
    fn without_bias_and_penalties_nothing_is_copied() {
        let mut adjustment = LogitAdjustment::new(&SamplingParams::greedy(), &[1]);
        adjustment.note(1);
        let logits = [1.0, 2.0];
        assert!(std::ptr::eq(adjustment.apply(&logits, Eligible::AllBut(&[])), &raw const logits[..]));
    }

    #[test]
    fn repetition_divides_what_is_positive_and_multiplies_the_rest() {
        let penalties = Penalties { repetition: 2.0, ..Penalties::NONE };
        let params = SamplingParams::greedy().with_penalties(penalties).unwrap();
        assert_eq!(adjusted(&params, &[0, 1], &[2, 2], &[4.0, -4.0, 6.0, 8.0]), [2.0, -8.0, 3.0, 8.0]);
    }

    #[test]
    fn presence_counts_once_and_frequency_each_time_in_the_completion_only() {
        let penalties = Penalties { presence: 0.5, frequency: 0.25, repetition: 1.0 };
        let params = SamplingParams::greedy().with_penalties(penalties).unwrap();
        assert_eq!(adjusted(&params, &[0], &[1, 2, 2], &[1.0; 4]), [1.0, 0.25, 0.0, 1.0]);
    }

    #[test]
    fn no_bias_brings_back_what_is_forbidden() {
        let params = SamplingParams::greedy().with_logit_bias(vec![(0, 100.0)]).unwrap();
        let mut adjustment = LogitAdjustment::new(&params, &[]);
        assert_eq!(adjustment.apply(&[1.0, 2.0], Eligible::AllBut(&[0, 9])), [f32::NEG_INFINITY, 2.0]);
        assert_eq!(adjustment.apply(&[1.0, 2.0], Eligible::AllBut(&[])), [101.0, 2.0]);
        let allowed = AllowedTokens::of(2, &[1]);
        assert_eq!(adjustment.apply(&[1.0, 2.0], Eligible::Only(&allowed)), [f32::NEG_INFINITY, 2.0]);
        let impossible = [1.0, f32::NEG_INFINITY];
        assert_eq!(adjustment.apply(&impossible, Eligible::Only(&allowed)), [f32::NEG_INFINITY, f32::MIN]);
    }

    #[test]
    fn the_bias_comes_before_the_penalties() {
        let penalties = Penalties { repetition: 2.0, presence: 1.0, frequency: 1.0 };
        let params = SamplingParams::greedy().with_penalties(penalties).unwrap();
        let params = params.with_logit_bias(vec![(0, 5.0), (1, -100.0)]).unwrap();
        // (−1 + 5) / 2 − 1 − 1
        assert_eq!(adjusted(&params, &[], &[0], &[-1.0, 1.0]), [0.0, -99.0]);
    }
}
