//! ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum: what an answer and a reference have in common.
//!
//! With h the hits, n the units of the answer and m those of the reference, the figure is
//!
//! ```text
//! F = 2 · P · R / (P + R)        P = h / n        R = h / m
//! ```
//!
//! ROUGE-n: the hits are the n-grams in both, of n-grams. ROUGE-L: the length of the longest common subsequence. ROUGE-Lsum:
//! texts are cut into sentences at line ends; the hits of a sentence of the reference are its units that are in its longest
//! common subsequence with some sentence of the answer, each unit at most as often as it occurs in either text. Of several
//! references the one with the best F counts, for each figure by itself. Lin, "ROUGE: a Package for Automatic Evaluation of
//! Summaries", 2004. Equal to rouge-score 0.1.2.

use std::collections::{BTreeSet, HashMap};

use crate::Script;
use crate::ngrams::NgramCounts;
use crate::porter;
use crate::spaces::characters;

/// What a text is cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Units {
    /// Runs of the letters a to z and digits, in lower case; everything else parts them.
    Words,
    /// Those words, of more than three letters their stems.
    Stems,
    /// Characters that are no white space, in lower case: the usual choice for Chinese.
    Characters,
}

impl Units {
    /// Those for texts in this script, without stemming.
    #[must_use]
    pub const fn for_script(script: Script) -> Self {
        match script {
            Script::Spaced => Self::Words,
            Script::Chinese => Self::Characters,
        }
    }

    fn of(self, text: &str) -> Vec<String> {
        let text = text.to_lowercase();
        if self == Self::Characters {
            return characters(&text).into_iter().map(String::from).collect();
        }
        let is_unit = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
        let words = text.split(|character| !is_unit(character)).filter(|word| !word.is_empty());
        let stemmed = |word: &str| match self {
            Self::Stems if word.len() > 3 => porter::stem(word),
            _ => word.to_owned(),
        };
        words.map(stemmed).collect()
    }
}

/// The F-scores, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scores {
    /// Single units.
    pub rouge_1: f64,
    /// Pairs of units.
    pub rouge_2: f64,
    /// The longest common subsequence.
    pub rouge_l: f64,
    /// The longest common subsequences, sentence by sentence.
    pub rouge_lsum: f64,
}

impl Scores {
    /// Of an answer and, for each figure, its best reference.
    #[must_use]
    pub fn of(units: Units, candidate: &str, references: &[String]) -> Self {
        let candidate = Text::of(units, candidate);
        let mut best = Self::default();
        for reference in references {
            let reference = Text::of(units, reference);
            best.rouge_1 = best.rouge_1.max(by_ngrams(&candidate.units, &reference.units, 1));
            best.rouge_2 = best.rouge_2.max(by_ngrams(&candidate.units, &reference.units, 2));
            best.rouge_l = best.rouge_l.max(by_subsequence(&candidate.units, &reference.units));
            best.rouge_lsum = best.rouge_lsum.max(by_sentences(&candidate.sentences, &reference.sentences));
        }
        best
    }
}

struct Text {
    units: Vec<String>,
    sentences: Vec<Vec<String>>,
}

impl Text {
    fn of(units: Units, text: &str) -> Self {
        let sentences = text.split('\n').filter(|line| !line.is_empty()).map(|line| units.of(line));
        Self { units: units.of(text), sentences: sentences.collect() }
    }
}

fn f_score(hits: usize, candidate: usize, reference: usize) -> f64 {
    if hits == 0 {
        return 0.0;
    }
    let (precision, recall) = (hits as f64 / candidate as f64, hits as f64 / reference as f64);
    2.0 * precision * recall / (precision + recall)
}

fn by_ngrams(candidate: &[String], reference: &[String], order: usize) -> f64 {
    let (candidate, reference) = (NgramCounts::of(candidate, order), NgramCounts::of(reference, order));
    f_score(candidate.matches(&reference), candidate.total(), reference.total())
}

fn by_subsequence(candidate: &[String], reference: &[String]) -> f64 {
    let hits = Subsequences::of(reference, candidate).longest();
    f_score(hits, candidate.len(), reference.len())
}

fn by_sentences(candidate: &[Vec<String>], reference: &[Vec<String>]) -> f64 {
    let (mut left_of_candidate, mut left_of_reference) = (occurrences(candidate), occurrences(reference));
    let mut hits = 0;
    for sentence in reference {
        let common: BTreeSet<usize> = candidate
            .iter()
            .flat_map(|other| Subsequences::of(sentence, other).positions(sentence, other))
            .collect();
        for unit in common.into_iter().filter_map(|position| sentence.get(position)) {
            let left = (left_of_candidate.get_mut(unit.as_str()), left_of_reference.get_mut(unit.as_str()));
            if let (Some(in_candidate @ 1..), Some(in_reference @ 1..)) = left {
                *in_candidate -= 1;
                *in_reference -= 1;
                hits += 1;
            }
        }
    }
    let length = |sentences: &[Vec<String>]| sentences.iter().map(Vec::len).sum();
    f_score(hits, length(candidate), length(reference))
}

fn occurrences(sentences: &[Vec<String>]) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    for unit in sentences.iter().flatten() {
        *counts.entry(unit.as_str()).or_insert(0) += 1;
    }
    counts
}

/// The lengths of the longest common subsequences of all beginnings of two sequences, in `(first + 1) × (second + 1)`.
struct Subsequences {
    lengths: Vec<u32>,
    columns: usize,
}

impl Subsequences {
    fn of(first: &[String], second: &[String]) -> Self {
        let columns = second.len() + 1;
        let mut table = Self { lengths: vec![0; (first.len() + 1) * columns], columns };
        for (row, of_first) in (1..).zip(first) {
            for (column, of_second) in (1..).zip(second) {
                table.lengths[row * columns + column] = if of_first == of_second {
                    table.at(row - 1, column - 1) + 1
                } else {
                    table.at(row - 1, column).max(table.at(row, column - 1))
                };
            }
        }
        table
    }

    fn at(&self, row: usize, column: usize) -> u32 {
        self.lengths[row * self.columns + column]
    }

    fn longest(&self) -> usize {
        self.lengths.last().map_or(0, |&length| length as usize)
    }

    /// The places in `first` of one longest common subsequence: of several, the one that rouge-score finds.
    fn positions(&self, first: &[String], second: &[String]) -> Vec<usize> {
        let (mut row, mut column) = (first.len(), second.len());
        let mut positions = Vec::with_capacity(self.longest());
        while row > 0 && column > 0 {
            if first[row - 1] == second[column - 1] {
                positions.push(row - 1);
                (row, column) = (row - 1, column - 1);
            } else if self.at(row, column - 1) > self.at(row - 1, column) {
                column -= 1;
            } else {
                row -= 1;
            }
        }
        positions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(candidate: &str, reference: &str) -> Scores {
        Scores::of(Units::Words, candidate, &[reference.to_owned()])
    }

    #[test]
    fn hits_are_counted_as_in_the_papers_example() {
        let scores = scores("police kill the gunman", "police killed the gunman");
        assert_eq!((scores.rouge_1, scores.rouge_l), (0.75, 0.75));
        assert!((scores.rouge_2 - 1.0 / 3.0).abs() < 1e-12);
        let stemmed =
            Scores::of(Units::Stems, "police kill the gunman", &["police killed the gunman".to_owned()]);
        assert_eq!(stemmed.rouge_1, 1.0);
    }

    #[test]
    fn sentences_are_lines() {
        // "c d" of the reference's second line is in the answer's first, which the whole text's subsequence misses.
        let scores = scores("c d\na b", "a b\nc d");
        assert_eq!((scores.rouge_l, scores.rouge_lsum), (0.5, 1.0));
    }

    #[test]
    fn characters_are_units_of_chinese() {
        let scores = Scores::of(Units::Characters, "今天 好", &["今天很好".to_owned()]);
        assert!((scores.rouge_1 - 2.0 * 0.75 / 1.75).abs() < 1e-12);
    }

    #[test]
    fn nothing_in_common_is_zero() {
        assert_eq!(scores("", "a b"), Scores::default());
        assert_eq!(scores("…", "?"), Scores::default());
    }
}
