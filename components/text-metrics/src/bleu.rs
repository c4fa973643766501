//! BLEU: how many of an answer's n-grams are in its references.
//!
//! With c the tokens of the answers, r those of the references of closest length (the shorter of two), m_n the n-grams of
//! the answers that are in a reference (each at most as often as in the reference that has most of it) and t_n all of
//! theirs, over all samples together:
//!
//! ```text
//! BLEU = 100 · min(1, exp(1 − r/c)) · exp( 1/4 · Σ_{n=1..4} ln p_n )        p_n = m_n / t_n
//! ```
//!
//! Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002. Smoothing is "exp", method 3
//! of Chen and Cherry, "A Systematic Comparison of Smoothing Techniques for Sentence-Level BLEU", WMT 2014: the k-th order
//! without a match has p_n = 1 / (2^k · t_n); nothing that matches at all gives 0. For single sentences the mean is over
//! the orders that the answer is long enough for. Equal to sacrebleu 2.6.0 with its defaults, and with
//! `effective_order=True` for sentences.

use crate::Tokenizer;
use crate::ngrams::NgramCounts;

/// The longest n-grams that count.
const ORDERS: usize = 4;

/// The logarithm that stands for that of 0.
const LEAST_LOGARITHM: f64 = -9_999_999_999.0;

/// What BLEU is computed from; sums over samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    candidate_tokens: usize,
    reference_tokens: usize,
    matches: [usize; ORDERS],
    totals: [usize; ORDERS],
}

impl Statistics {
    /// Of one answer and its references.
    #[must_use]
    pub fn of(tokenizer: Tokenizer, candidate: &str, references: &[String]) -> Self {
        let candidate = tokenizer.tokens(candidate);
        let references: Vec<Vec<String>> =
            references.iter().map(|reference| tokenizer.tokens(reference)).collect();
        let closest = references
            .iter()
            .map(Vec::len)
            .min_by_key(|&length| (length.abs_diff(candidate.len()), length))
            .unwrap_or(0);
        let mut statistics =
            Self { candidate_tokens: candidate.len(), reference_tokens: closest, ..Self::default() };
        for (order, (matches, total)) in (1..).zip(statistics.matches.iter_mut().zip(&mut statistics.totals))
        {
            let mut most = NgramCounts::of(&[], order);
            for reference in &references {
                most.raise_to(&NgramCounts::of(reference, order));
            }
            let own = NgramCounts::of(&candidate, order);
            (*matches, *total) = (own.matches(&most), own.total());
        }
        statistics
    }

    /// Those of a sample and of the samples so far, together.
    pub fn add(&mut self, other: &Self) {
        self.candidate_tokens += other.candidate_tokens;
        self.reference_tokens += other.reference_tokens;
        let add = |own: &mut [usize], others: &[usize]| {
            own.iter_mut().zip(others).for_each(|(own, other)| *own += other);
        };
        add(&mut self.matches, &other.matches);
        add(&mut self.totals, &other.totals);
    }

    /// BLEU over all samples, 0 to 100.
    #[must_use]
    pub fn corpus_score(&self) -> f64 {
        self.score(ORDERS)
    }

    /// BLEU of a single sample, 0 to 100: only the orders count that its answer is long enough for.
    #[must_use]
    pub fn sentence_score(&self) -> f64 {
        self.score(self.totals.iter().take_while(|&&total| total > 0).count())
    }

    fn score(&self, orders: usize) -> f64 {
        if self.matches.iter().all(|&matches| matches == 0) {
            return 0.0;
        }
        let mut smoothing = 1.0;
        let mut logarithms = 0.0;
        let mut is_exhausted = false;
        for (&matches, &total) in self.matches.iter().zip(&self.totals).take(orders) {
            is_exhausted |= total == 0;
            logarithms += if is_exhausted {
                LEAST_LOGARITHM
            } else if matches == 0 {
                smoothing *= 2.0;
                (100.0 / (smoothing * total as f64)).ln()
            } else {
                (100.0 * matches as f64 / total as f64).ln()
            };
        }
        self.brevity_penalty() * (logarithms / orders as f64).exp()
    }

    fn brevity_penalty(&self) -> f64 {
        if self.candidate_tokens >= self.reference_tokens {
            return 1.0;
        }
        (1.0 - self.reference_tokens as f64 / self.candidate_tokens as f64).exp()
    }
}

/// The signature that sacrebleu prints for [`Statistics::corpus_score`], with `references` per sample.
#[must_use]
pub fn signature(tokenizer: Tokenizer, references: &str) -> String {
    format!("nrefs:{references}|case:mixed|eff:no|tok:{}|smooth:exp|version:2.6.0", tokenizer.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(candidate: &str, references: &[&str]) -> Statistics {
        let references: Vec<String> = references.iter().map(|&reference| reference.to_owned()).collect();
        Statistics::of(Tokenizer::Mteval13a, candidate, &references)
    }

    #[test]
    fn an_answer_that_is_its_reference_has_all_points() {
        let statistics = of("the cat sat on the mat", &["the cat sat on the mat"]);
        assert!((statistics.corpus_score() - 100.0).abs() < 1e-9);
    }

    #[test]
    fn orders_without_a_match_are_smoothed_one_after_the_other() {
        // One token in two, no bigram in one.
        let statistics = of("a b", &["a c"]);
        let expected = 100.0 * (0.5_f64 * 0.5).sqrt();
        assert!((statistics.sentence_score() - expected).abs() < 1e-9);
        assert_eq!(statistics.corpus_score(), 0.0);
        assert_eq!(of("x y", &["a b"]).sentence_score(), 0.0);
        assert_eq!(of("", &["a b"]).sentence_score(), 0.0);
    }

    #[test]
    fn the_closest_reference_counts_and_of_two_the_shorter() {
        assert_eq!(of("a b c", &["a b", "a b c d", "a"]).reference_tokens, 2);
        assert_eq!(of("a b c", &["a b c d e", "a b c d"]).reference_tokens, 4);
    }
}
