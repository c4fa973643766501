//! Exact match: whether an answer is one of its references.
//!
//! Strictly, white space at the ends aside; or normalised as SQuAD does it (Rajpurkar et al., "SQuAD: 100,000+ Questions
//! for Machine Comprehension of Text", EMNLP 2016, its program `evaluate-v1.1.py`): in lower case, without ASCII
//! punctuation, without the articles a, an and the, and with one space between words.

use crate::spaces::{is_space, words};

/// Whether the answer is one of the references but for white space at the ends.
#[must_use]
pub fn is_match(candidate: &str, references: &[String]) -> bool {
    let candidate = candidate.trim_matches(is_space);
    references.iter().any(|reference| reference.trim_matches(is_space) == candidate)
}

/// Whether the answer is one of the references after both are normalised.
#[must_use]
pub fn is_normalised_match(candidate: &str, references: &[String]) -> bool {
    let candidate = normalised(candidate);
    references.iter().any(|reference| normalised(reference) == candidate)
}

fn normalised(text: &str) -> String {
    let lower = text.to_lowercase();
    let bare: String = lower.chars().filter(|character| !character.is_ascii_punctuation()).collect();
    words(&without_articles(&bare)).collect::<Vec<_>>().join(" ")
}

/// With a space in place of each article that stands as a word of its own, whatever sign is beside it.
fn without_articles(text: &str) -> String {
    let is_article = |word: &str| matches!(word, "a" | "an" | "the");
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let is_word = next.is_alphanumeric();
        let length =
            rest.find(|character: char| character.is_alphanumeric() != is_word).unwrap_or(rest.len());
        let (run, after) = rest.split_at(length);
        kept.push_str(if is_article(run) { " " } else { run });
        rest = after;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_matches_any_reference() {
        let references = ["Paris".to_owned(), "the city of Paris".to_owned()];
        assert!(is_match(" Paris\n", &references));
        assert!(!is_match("paris", &references));
        assert!(is_normalised_match("City of  PARIS!", &references));
        assert!(!is_normalised_match("Paris, France", &references));
    }

    #[test]
    fn articles_go_only_as_words() {
        assert_eq!(normalised("The “a” of an anthem, theatre-an"), "“ ” of anthem theatrean");
        assert_eq!(normalised("a an the"), "");
    }
}
