//! Distances between distributions over a vocabulary, in float64.

/// Index of the largest value, the first of equals.
#[must_use]
pub fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

/// ln Σ exp(value).
#[must_use]
pub fn log_sum_exp(values: &[f32]) -> f64 {
    let largest = f64::from(values.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    largest + values.iter().map(|value| (f64::from(*value) - largest).exp()).sum::<f64>().ln()
}

/// KL(p ‖ q) in nats of two rows of logits over the same vocabulary.
#[must_use]
pub fn kl_of_logits(p: &[f32], q: &[f32]) -> f64 {
    let (p_norm, q_norm) = (log_sum_exp(p), log_sum_exp(q));
    let terms = p.iter().zip(q).map(|(p, q)| {
        let (p, q) = (f64::from(*p) - p_norm, f64::from(*q) - q_norm);
        p.exp() * (p - q)
    });
    terms.sum()
}

/// KL(p ‖ q) in nats where p is known for some outcomes only and all others count as one: never above the true KL.
///
/// `p` and `q` are log-probabilities of the same outcomes.
#[must_use]
pub fn coarse_kl(p: &[f64], q: &[f64]) -> f64 {
    let rest = |logs: &[f64]| (1.0 - logs.iter().map(|log| log.exp()).sum::<f64>()).max(1e-12);
    let (p_rest, q_rest) = (rest(p), rest(q));
    let kept: f64 = p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum();
    kept + p_rest * (p_rest / q_rest).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kl_is_zero_for_equal_rows_and_matches_a_hand_computed_pair() {
        assert!(kl_of_logits(&[1.0, 2.0, 3.0], &[2.0, 3.0, 4.0]).abs() < 1e-12);
        // p = (1/2, 1/2), q = (1/4, 3/4): ½ ln 2 + ½ ln ⅔
        let q = [0.25_f32.ln(), 0.75_f32.ln()];
        let expected = 0.5 * 2.0_f64.ln() + 0.5 * (2.0_f64 / 3.0).ln();
        assert!((kl_of_logits(&[0.0, 0.0], &q) - expected).abs() < 1e-7);
    }

    #[test]
    fn coarse_kl_of_all_outcomes_but_one_is_the_true_kl() {
        let p = [0.5_f64.ln()];
        let q = [0.25_f64.ln()];
        let expected = 0.5 * 2.0_f64.ln() + 0.5 * (2.0_f64 / 3.0).ln();
        assert!((coarse_kl(&p, &q) - expected).abs() < 1e-12);
    }
}
