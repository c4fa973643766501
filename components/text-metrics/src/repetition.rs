//! Repetition: how varied a model's answers are, and how often they say the same again.
//!
//! distinct-n is the number of different n-grams over the number of units, in all answers together (Li et al., "A
//! Diversity-Promoting Objective Function for Neural Conversation Models", NAACL 2016). The repeated share of one answer
//! is seq-rep-n of Welleck et al., "Neural Text Generation with Unlikelihood Training", ICLR 2020:
//!
//! ```text
//! 1 − (different n-grams) / (n-grams)
//! ```
//!
//! Units are words between white space, or characters of Chinese, and not a model's tokens, so that models with different
//! tokenizers compare.

use crate::Script;
use crate::ngrams::NgramCounts;
use crate::spaces::{characters, words};

/// The units of a text in this script.
#[must_use]
pub fn units(script: Script, text: &str) -> Vec<String> {
    match script {
        Script::Spaced => words(text).map(str::to_owned).collect(),
        Script::Chinese => characters(text).into_iter().map(String::from).collect(),
    }
}

/// distinct-n of answers that are given as their units; none where no answer has a unit.
#[must_use]
pub fn distinct(answers: &[Vec<String>], order: usize) -> Option<f64> {
    let all: usize = answers.iter().map(Vec::len).sum();
    let mut different = NgramCounts::of(&[], order);
    for answer in answers {
        different.raise_to(&NgramCounts::of(answer, order));
    }
    (all > 0).then(|| different.distinct() as f64 / all as f64)
}

/// The repeated share of an answer's n-grams; none where it has no n-gram.
#[must_use]
pub fn repeated_share(answer: &[String], order: usize) -> Option<f64> {
    let ngrams = NgramCounts::of(answer, order);
    let total = ngrams.total();
    (total > 0).then(|| 1.0 - ngrams.distinct() as f64 / total as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(text: &str) -> Vec<String> {
        units(Script::Spaced, text)
    }

    #[test]
    fn distinct_counts_over_all_answers() {
        let answers = [words_of("a b a b"), words_of("a c")];
        assert_eq!(distinct(&answers, 1), Some(3.0 / 6.0));
        assert_eq!(distinct(&answers, 2), Some(3.0 / 6.0));
        assert_eq!(distinct(&[Vec::new()], 1), None);
    }

    #[test]
    fn what_is_said_again_is_repeated() {
        assert_eq!(repeated_share(&words_of("x y x y x y"), 2), Some(1.0 - 2.0 / 5.0));
        assert_eq!(repeated_share(&words_of("x y z"), 4), None);
        assert_eq!(units(Script::Chinese, "今天 好"), ["今", "天", "好"]);
    }
}
