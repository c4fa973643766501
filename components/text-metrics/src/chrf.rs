//! chrF and chrF++: the F-score of an answer's character n-grams, and of its word n-grams too.
//!
//! With P the mean over the orders of the share of the answer's n-grams that are in the reference, and R the mean of the
//! share of the reference's that are in the answer, over the orders that both are long enough for, β = 2:
//!
//! ```text
//! chrF = 100 · (1 + β²) · P · R / (β² · P + R)
//! ```
//!
//! Character n-grams have 1 to 6 characters, white space left out; chrF++ takes n-grams of 1 and 2 words as well, of whose
//! ends one punctuation mark is split off. Of several references the one with the best score counts, and over several
//! samples the counts are added up first. Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015,
//! and "chrF++: words helping character n-grams", WMT 2017. Equal to sacrebleu 2.6.0's `CHRF` with its defaults.

use std::hash::Hash;

use crate::ngrams::NgramCounts;
use crate::spaces::{characters, words};

const CHARACTER_ORDERS: usize = 6;
const MAX_WORD_ORDERS: usize = 2;
const BETA_SQUARED: f64 = 4.0;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Characters alone.
    Chrf,
    /// Characters and words.
    ChrfPlusPlus,
}

impl Variant {
    const fn word_orders(self) -> usize {
        match self {
            Self::Chrf => 0,
            Self::ChrfPlusPlus => MAX_WORD_ORDERS,
        }
    }

    /// The signature that sacrebleu prints for it, with `references` per sample.
    #[must_use]
    pub fn signature(self, references: &str) -> String {
        let words = self.word_orders();
        format!(
            "nrefs:{references}|case:mixed|eff:yes|nc:{CHARACTER_ORDERS}|nw:{words}|space:no|version:2.6.0"
        )
    }
}

/// n-grams of one order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    candidate: usize,
    reference: usize,
    matches: usize,
}

/// What chrF is computed from; sums over samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics([Counts; CHARACTER_ORDERS + MAX_WORD_ORDERS]);

impl Statistics {
    /// Of one answer and the reference that it scores best with.
    #[must_use]
    pub fn of(variant: Variant, candidate: &str, references: &[String]) -> Self {
        let mut best: Option<(f64, Self)> = None;
        for reference in references {
            let statistics = Self::of_one(variant, candidate, reference);
            let score = statistics.score();
            if best.is_none_or(|(highest, _)| score > highest) {
                best = Some((score, statistics));
            }
        }
        best.map(|(_, statistics)| statistics).unwrap_or_default()
    }

    fn of_one(variant: Variant, candidate: &str, reference: &str) -> Self {
        let mut statistics = Self::default();
        let (by_character, by_word) = statistics.0.split_at_mut(CHARACTER_ORDERS);
        count(by_character, &characters(candidate), &characters(reference));
        let by_word = by_word.iter_mut().take(variant.word_orders());
        count(by_word, &marks_apart(candidate), &marks_apart(reference));
        statistics
    }

    /// Those of a sample and of the samples so far, together.
    pub fn add(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            own.candidate += other.candidate;
            own.reference += other.reference;
            own.matches += other.matches;
        }
    }

    /// chrF or chrF++, 0 to 100.
    #[must_use]
    pub fn score(&self) -> f64 {
        let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
        for counts in self.0.iter().filter(|counts| counts.candidate > 0 && counts.reference > 0) {
            precision += counts.matches as f64 / counts.candidate as f64;
            recall += counts.matches as f64 / counts.reference as f64;
            orders += 1.0;
        }
        if precision + recall == 0.0 {
            return 0.0;
        }
        let (precision, recall) = (precision / orders, recall / orders);
        100.0 * (1.0 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)
    }
}

/// Counts the n-grams of ascending order. An answer's count for nothing where the reference is too short to have any.
fn count<'a, Unit: Eq + Hash>(
    orders: impl IntoIterator<Item = &'a mut Counts>,
    candidate: &[Unit],
    reference: &[Unit],
) {
    for (order, counts) in (1..).zip(orders) {
        let (candidate, reference) = (NgramCounts::of(candidate, order), NgramCounts::of(reference, order));
        counts.reference = reference.total();
        counts.candidate = if counts.reference == 0 { 0 } else { candidate.total() };
        counts.matches = candidate.matches(&reference);
    }
}

/// The words, with an ASCII punctuation mark at the end, or else at the beginning, as a word of its own.
fn marks_apart(text: &str) -> Vec<&str> {
    let is_mark = |character: char| character.is_ascii_punctuation();
    let mut apart = Vec::new();
    for word in words(text) {
        if let Some(rest) = word.strip_suffix(is_mark).filter(|rest| !rest.is_empty()) {
            apart.extend([rest, &word[rest.len()..]]);
        } else if let Some(rest) = word.strip_prefix(is_mark).filter(|rest| !rest.is_empty()) {
            apart.extend([&word[..word.len() - rest.len()], rest]);
        } else {
            apart.push(word);
        }
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mark_is_split_off_a_word() {
        assert_eq!(
            marks_apart("(hi) (see a . don't é!"),
            ["(hi", ")", "(", "see", "a", ".", "don't", "é", "!"]
        );
    }

    #[test]
    fn recall_weighs_four_times_as_much_as_precision() {
        // One order only: two of three characters right, of a reference of two.
        let references = ["ab".to_owned()];
        let statistics = Statistics::of(Variant::Chrf, "a b", &references);
        assert!((statistics.score() - 100.0).abs() < 1e-9);
        let statistics = Statistics::of(Variant::Chrf, "a", &references);
        assert!((statistics.score() - 100.0 * 5.0 * 0.5 / 4.5).abs() < 1e-9);
    }

    #[test]
    fn the_best_reference_counts() {
        let references = ["nothing".to_owned(), "the same".to_owned()];
        let score = Statistics::of(Variant::ChrfPlusPlus, "the same", &references).score();
        assert!((score - 100.0).abs() < 1e-9);
        assert_eq!(Statistics::of(Variant::Chrf, "", &references).score(), 0.0);
    }
}
