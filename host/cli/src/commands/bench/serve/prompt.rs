//! Prompts of a given length that differ from the first word on, or have just their beginning in common.

use anyhow::{Result, ensure};

/// Common English words: with the space before it, each is one token in the vocabularies of Llama, Qwen, SmolLM2 and
/// gpt-oss.
const WORDS: [&str; 64] = [
    "time",
    "year",
    "people",
    "way",
    "day",
    "man",
    "thing",
    "woman",
    "life",
    "child",
    "world",
    "school",
    "state",
    "family",
    "student",
    "group",
    "country",
    "problem",
    "hand",
    "part",
    "place",
    "case",
    "week",
    "company",
    "system",
    "program",
    "question",
    "work",
    "government",
    "number",
    "night",
    "point",
    "home",
    "water",
    "room",
    "mother",
    "area",
    "money",
    "story",
    "fact",
    "month",
    "lot",
    "right",
    "study",
    "book",
    "eye",
    "job",
    "word",
    "business",
    "issue",
    "side",
    "kind",
    "head",
    "house",
    "service",
    "friend",
    "father",
    "power",
    "hour",
    "game",
    "line",
    "end",
    "member",
    "law",
];

/// The stream of words that all prompts of a seed begin with; the others are numbered from 1.
const SHARED_STREAM: u64 = 0;

/// The prompts of a run.
pub(super) struct Prompts {
    words: usize,
    shared: usize,
    seed: u64,
}

impl Prompts {
    /// Prompts of `words` words, of which the first `shared` are the same in all.
    pub(super) fn new(words: usize, shared: usize, seed: u64) -> Result<Self> {
        ensure!(words > 0, "--prompt-tokens: found 0, expected at least 1");
        ensure!(shared <= words, "--shared-tokens: found {shared}, expected at most {words}, the prompt");
        Ok(Self { words, shared, seed })
    }

    /// The prompt of request `index`, the same whenever it is asked for.
    pub(super) fn text(&self, index: usize) -> String {
        let shared = (0..self.shared).map(|place| self.word(SHARED_STREAM, place));
        let own = (self.shared..self.words).map(|place| self.word(index as u64 + 1, place));
        shared.chain(own).collect::<Vec<_>>().join(" ")
    }

    fn word(&self, stream: u64, place: usize) -> &'static str {
        let hash = mix(mix(mix(self.seed).wrapping_add(stream)).wrapping_add(place as u64));
        WORDS[hash as usize % WORDS.len()]
    }
}

/// One step of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
fn mix(state: u64) -> u64 {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_differ_after_what_they_share() {
        let prompts = Prompts::new(50, 20, 1).unwrap();
        let [first, second] = [0, 1].map(|index| prompts.text(index));
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (first, second) = (words(&first), words(&second));
        assert_eq!((first.len(), second.len()), (50, 50));
        assert_eq!(first[..20], second[..20]);
        assert_ne!(first[20..30], second[20..30]);
        assert_eq!(prompts.text(0), prompts.text(0));
        assert_ne!(prompts.text(0), Prompts::new(50, 20, 2).unwrap().text(0));
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        assert!(Prompts::new(0, 0, 0).is_err());
        assert!(Prompts::new(4, 5, 0).is_err_and(|error| error.to_string().contains("--shared-tokens")));
    }
}
