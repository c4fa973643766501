//! Learning a vocabulary of one's own from texts, by byte-level BPE.
//!
//! The merges are learnt here, in words cut as gpt-oss's tokenizer cuts them; of equally frequent pairs the one whose
//! tokens come first wins, so that texts decide alone. What a file of them looks like is the model room's business.

use std::collections::{BTreeSet, HashMap, HashSet};

use espalier_model::TokenizerFiles;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use crate::error::TrainingError;

/// The files of a tokenizer of `size` tokens for `texts`; fewer if the texts have no more pairs that occur twice.
///
/// # Errors
/// A size below that of the bytes and special tokens.
pub fn learn_vocabulary(texts: &[String], size: usize) -> Result<TokenizerFiles, TrainingError> {
    let least = TokenizerFiles::LEAST_HARMONY_VOCABULARY;
    let Some(merges) = size.checked_sub(least) else {
        return Err(TrainingError::argument("vocabulary", size, format!("at least {least}")));
    };
    let mut learner = Learner::new(words(texts)?);
    let mut learnt = Vec::with_capacity(merges);
    while learnt.len() < merges {
        let Some(merge) = learner.merge() else { break };
        learnt.push(merge);
    }
    Ok(TokenizerFiles::harmony(&learnt)?)
}

/// How often each word occurs, spelled in the characters of `tokenizer.json`.
fn words(texts: &[String]) -> Result<Vec<(String, u64)>, TrainingError> {
    let failed = |error: tokenizers::Error| TrainingError::Tokenizer(error.to_string());
    let bytes = TokenizerFiles::harmony(&[])?.tokenizer_json.unwrap_or_default();
    let tokenizer: tokenizers::Tokenizer = bytes.parse().map_err(failed)?;
    let Some(splitter) = tokenizer.get_pre_tokenizer() else { return Ok(Vec::new()) };
    let mut counts: HashMap<String, u64> = HashMap::new();
    for text in texts {
        // Whole files at once would hold an object for every word of them.
        for line in text.split_inclusive('\n') {
            let mut split = PreTokenizedString::from(line);
            splitter.pre_tokenize(&mut split).map_err(failed)?;
            for (word, _, _) in split.get_splits(OffsetReferential::Normalized, OffsetType::None) {
                *counts.entry(word.to_owned()).or_default() += 1;
            }
        }
    }
    let mut words: Vec<(String, u64)> = counts.into_iter().collect();
    words.sort_unstable();
    Ok(words)
}

/// A pair of neighbouring tokens.
type Pair = (u32, u32);

/// Words as tokens, and the pairs in them.
struct Learner {
    tokens: Vec<String>,
    words: Vec<(Vec<u32>, u64)>,
    counts: HashMap<Pair, u64>,
    /// The same, most frequent last.
    ranked: BTreeSet<(u64, std::cmp::Reverse<Pair>)>,
    /// Words that have, or had, a pair.
    places: HashMap<Pair, HashSet<usize>>,
}

impl Learner {
    fn new(words: Vec<(String, u64)>) -> Self {
        let characters: BTreeSet<char> = words.iter().flat_map(|(word, _)| word.chars()).collect();
        let ids: HashMap<char, u32> = characters.iter().copied().zip(0..).collect();
        let words = words
            .into_iter()
            .map(|(word, count)| {
                (word.chars().filter_map(|character| ids.get(&character).copied()).collect(), count)
            })
            .collect();
        let tokens = characters.into_iter().map(String::from).collect();
        let mut learner =
            Self { tokens, words, counts: HashMap::new(), ranked: BTreeSet::new(), places: HashMap::new() };
        for place in 0..learner.words.len() {
            learner.count(place, true);
        }
        learner
    }

    /// Counts the pairs of a word in, or out again.
    fn count(&mut self, place: usize, is_in: bool) {
        let Some((word, times)) = self.words.get(place) else { return };
        for pair in word.windows(2) {
            let &[left, right] = pair else { continue };
            let pair = (left, right);
            let count = self.counts.entry(pair).or_default();
            self.ranked.remove(&(*count, std::cmp::Reverse(pair)));
            *count = if is_in { *count + times } else { count.saturating_sub(*times) };
            if *count > 0 {
                self.ranked.insert((*count, std::cmp::Reverse(pair)));
            }
            if is_in {
                self.places.entry(pair).or_default().insert(place);
            }
        }
    }

    /// Makes one token of the most frequent pair; `None` if none occurs twice.
    fn merge(&mut self) -> Option<(String, String)> {
        let (_, std::cmp::Reverse(pair)) = *self.ranked.last().filter(|(count, _)| *count > 1)?;
        let parts = (self.tokens.get(pair.0 as usize)?.clone(), self.tokens.get(pair.1 as usize)?.clone());
        let merged = self.tokens.len() as u32;
        self.tokens.push(format!("{}{}", parts.0, parts.1));
        let mut places: Vec<usize> = self.places.remove(&pair).unwrap_or_default().into_iter().collect();
        places.sort_unstable();
        for place in places {
            self.count(place, false);
            if let Some((word, _)) = self.words.get_mut(place) {
                join(word, pair, merged);
            }
            self.count(place, true);
        }
        Some(parts)
    }
}

/// Replaces the pair in a word, from its beginning.
fn join(word: &mut Vec<u32>, pair: Pair, merged: u32) {
    let mut joined = Vec::with_capacity(word.len());
    let mut left = word.as_slice();
    while let [first, rest @ ..] = left {
        match rest {
            [second, behind @ ..] if (*first, *second) == pair => {
                joined.push(merged);
                left = behind;
            }
            _ => {
                joined.push(*first);
                left = rest;
            }
        }
    }
    *word = joined;
}

#[cfg(test)]
mod tests {
    use espalier_model::Tokenizer;

    use super::*;

    #[test]
    fn frequent_words_become_tokens() {
        let text = "the theatre, the thing; the other.\n".repeat(3);
        let files = learn_vocabulary(std::slice::from_ref(&text), 300).unwrap();
        let tokenizer = Tokenizer::new(&files, None, &[]).unwrap();
        assert!(tokenizer.token_id("Ġthe").is_some());
        let tokens = tokenizer.encode(&text, false).unwrap();
        assert_eq!(tokenizer.decode(&tokens, false), text);
        assert!(tokens.len() < text.len() / 3, "{} tokens", tokens.len());
        assert_eq!(files, learn_vocabulary(&[text], 300).unwrap());
        assert!(
            learn_vocabulary(&[], 100).unwrap_err().to_string().contains("found 100, expected at least 265")
        );
    }

    #[test]
    fn pairs_are_joined_from_the_left() {
        let mut word = vec![1, 1, 1, 2, 1];
        join(&mut word, (1, 1), 9);
        assert_eq!(word, [9, 1, 2, 1]);
    }
}
