//! The formulas of the metrics that compare texts: BLEU, chrF, ROUGE, exact match and repetition.
//!
//! Each module states its formula, where it comes from and which program it agrees with. Everything is a pure function
//! of texts, so it is tested natively and against the files that those programs made (`tests/golden`); where answers and
//! references come from is left to the guests in `components/metrics`.

pub mod bleu;
pub mod chrf;
pub mod exact_match;
mod ngrams;
mod porter;
pub mod repetition;
pub mod rouge;
mod script;
mod spaces;
mod tokenizer;

pub use script::Script;
pub use tokenizer::Tokenizer;

/// What sacrebleu's signatures say of the numbers of references of the samples: the number, or `var` if they differ.
#[must_use]
pub fn reference_count(counts: impl IntoIterator<Item = usize>) -> String {
    let mut counts = counts.into_iter();
    let first = counts.next().unwrap_or(0);
    if counts.all(|count| count == first) { first.to_string() } else { "var".to_owned() }
}
