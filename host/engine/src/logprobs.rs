//! Log-probabilities of tokens under the model's own distribution.
//!
//! That is the softmax of the logits as the model gives them: before bias, penalties, temperature and every cut. So they
//! say the same of a text whatever it was sampled with.

/// Most alternatives that are reported for a token, as in OpenAI's chat completions.
pub const MAX_TOP_LOGPROBS: usize = 20;

/// Stands for the logarithm of probabilities that are 0, as in OpenAI's API: JSON has no infinity.
const LEAST: f64 = -9999.0;

/// A token and how probable it was.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprobs {
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The most probable tokens at its place, the first first, as many as were asked for.
    pub top: Vec<(u32, f32)>,
}

impl TokenLogprobs {
    /// Of `token` under `logits` `[vocab_size]`, with the `count` most probable tokens.
    pub(crate) fn of(token: u32, logits: &[f32], count: usize) -> Self {
        let maximum = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - maximum).exp()).sum();
        let logprob = |logit: f32| ((f64::from(logit) - maximum) - sum.ln()).max(LEAST) as f32;
        let own = logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
        let top = largest(logits, count).into_iter().map(|(token, logit)| (token, logprob(logit))).collect();
        Self { token, logprob: logprob(own), top }
    }
}

/// The `count` largest of `logits` with their places, the largest first, of equals the one with the lower place.
fn largest(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut found: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    for (&logit, token) in logits.iter().zip(0u32..) {
        if found.len() < count || found.last().is_some_and(|&(_, least)| logit > least) {
            let place = found.partition_point(|&(_, other)| other >= logit);
            found.insert(place, (token, logit));
            found.truncate(count);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_logarithms_of_the_softmax() {
        let logits = [0.1f32, 0.2, 0.3, 0.4].map(|p| p.ln() + 5.0);
        let scored = TokenLogprobs::of(1, &logits, 2);
        assert!((scored.logprob - 0.2f32.ln()).abs() < 1e-6);
        let tokens: Vec<u32> = scored.top.iter().map(|(token, _)| *token).collect();
        assert_eq!(tokens, [3, 2]);
        assert!((scored.top[0].1 - 0.4f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn large_logits_and_impossible_tokens_stay_finite() {
        let scored = TokenLogprobs::of(1, &[1e30, f32::NEG_INFINITY, 1e30], 1);
        assert_eq!(scored.logprob, -9999.0);
        assert!((scored.top[0].1 - 0.5f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn the_largest_are_found_in_order_and_of_equals_the_first() {
        assert_eq!(largest(&[1.0, 3.0, 2.0, 3.0], 3), [(1, 3.0), (3, 3.0), (2, 2.0)]);
        assert_eq!(largest(&[1.0, 3.0], 5), [(1, 3.0), (0, 1.0)]);
        assert!(largest(&[1.0], 0).is_empty());
    }
}
