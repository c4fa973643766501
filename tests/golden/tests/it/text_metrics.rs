//! BLEU, chrF and ROUGE give what sacrebleu and rouge-score give for the pairs of `text_metrics.py`.

use std::collections::BTreeMap;
use std::fs;

use espalier_text_metrics::rouge::{Scores, Units};
use espalier_text_metrics::{Script, Tokenizer, bleu, chrf, reference_count};
use serde::Deserialize;

const TOLERANCE: f64 = 1e-6;

#[derive(Deserialize)]
#[serde(untagged)]
enum References {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct Line {
    candidate: String,
    reference: References,
}

#[derive(Deserialize)]
struct Golden {
    corpus: BTreeMap<String, f64>,
    signatures: BTreeMap<String, String>,
    pairs: BTreeMap<String, Vec<f64>>,
}

struct Pairs {
    pairs: Vec<(String, Vec<String>)>,
    golden: Golden,
}

impl Pairs {
    fn read(language: &str) -> Self {
        let path =
            |extension| espalier_golden::data().join("text-metrics").join(language).with_extension(extension);
        let lines = fs::read_to_string(path("jsonl")).unwrap();
        let pairs: Vec<_> = lines
            .lines()
            .map(|line| {
                let line: Line = serde_json::from_str(line).unwrap();
                let references = match line.reference {
                    References::One(reference) => vec![reference],
                    References::Several(references) => references,
                };
                (line.candidate, references)
            })
            .collect();
        assert_eq!(pairs.len(), 500);
        let golden = serde_json::from_str(&fs::read_to_string(path("json")).unwrap()).unwrap();
        Self { pairs, golden }
    }

    fn script(&self) -> Script {
        Script::of(self.pairs.iter().flat_map(|(_, references)| references).map(String::as_str))
    }

    fn reference_count(&self) -> String {
        reference_count(self.pairs.iter().map(|(_, references)| references.len()))
    }

    /// Compares the score of each pair.
    fn check(&self, name: &str, score: impl Fn(&str, &[String]) -> f64) {
        let expected = &self.golden.pairs[name];
        assert_eq!(expected.len(), self.pairs.len());
        for ((candidate, references), expected) in self.pairs.iter().zip(expected) {
            let found = score(candidate, references);
            assert!(
                (found - expected).abs() <= TOLERANCE,
                "{name} of {candidate:?} and {references:?} is {found}, expected {expected}"
            );
        }
    }

    /// Compares the score of all pairs together.
    fn check_corpus(&self, name: &str, found: f64) {
        let expected = self.golden.corpus[name];
        assert!((found - expected).abs() <= TOLERANCE, "{name} is {found}, expected {expected}");
    }
}

const LANGUAGES: [(&str, Script); 2] = [("en", Script::Spaced), ("zh", Script::Chinese)];

#[test]
fn bleu_equals_sacrebleus() {
    for (language, script) in LANGUAGES {
        let pairs = Pairs::read(language);
        assert_eq!(pairs.script(), script);
        let tokenizer = Tokenizer::for_script(script);
        let statistics =
            |candidate: &str, references: &[String]| bleu::Statistics::of(tokenizer, candidate, references);
        pairs.check("BLEU", |candidate, references| statistics(candidate, references).sentence_score());
        let mut corpus = bleu::Statistics::default();
        pairs.pairs.iter().for_each(|(candidate, references)| corpus.add(&statistics(candidate, references)));
        pairs.check_corpus("BLEU", corpus.corpus_score());
        assert_eq!(bleu::signature(tokenizer, &pairs.reference_count()), pairs.golden.signatures["BLEU"]);
    }
}

#[test]
fn chrf_equals_sacrebleus() {
    for (language, _) in LANGUAGES {
        let pairs = Pairs::read(language);
        for (name, variant) in [("chrF", chrf::Variant::Chrf), ("chrF++", chrf::Variant::ChrfPlusPlus)] {
            let statistics =
                |candidate: &str, references: &[String]| chrf::Statistics::of(variant, candidate, references);
            pairs.check(name, |candidate, references| statistics(candidate, references).score());
            let mut corpus = chrf::Statistics::default();
            pairs
                .pairs
                .iter()
                .for_each(|(candidate, references)| corpus.add(&statistics(candidate, references)));
            pairs.check_corpus(name, corpus.score());
            assert_eq!(variant.signature(&pairs.reference_count()), pairs.golden.signatures[name]);
        }
    }
}

type Figure = fn(Scores) -> f64;

#[test]
fn rouge_equals_rouge_scores() {
    let cases = [("en", Units::Words, ""), ("en", Units::Stems, " stemmed"), ("zh", Units::Characters, "")];
    for (language, units, suffix) in cases {
        let pairs = Pairs::read(language);
        let figures: [(&str, Figure); 4] = [
            ("rouge1", |scores| scores.rouge_1),
            ("rouge2", |scores| scores.rouge_2),
            ("rougeL", |scores| scores.rouge_l),
            ("rougeLsum", |scores| scores.rouge_lsum),
        ];
        for (name, figure) in figures {
            let name = [name, suffix].concat();
            pairs.check(&name, |candidate, references| figure(Scores::of(units, candidate, references)));
        }
    }
}
