//! Repetition of the model in what it writes: the answers to the samples, or, for data that is plain text, continuations of
//! pieces of it.
//!
//! * `distinct-1`, `distinct-2`, `distinct-3`: different n-grams over units, in all answers together (Li et al., NAACL
//!   2016). Depends on how much is written: compare models on the same data.
//! * `repetition.4-grams`: 1 − different 4-grams over 4-grams, the mean over the answers with its standard error
//!   (seq-rep-4 of Welleck et al., ICLR 2020).
//!
//! Continuations are theirs too: the most probable 100 tokens after each of the first 16 prefixes of 50 tokens. The
//! formulas are in `espalier_text_metrics::repetition`.

use espalier_evaluation_metric::inference::{Session, Step};
use espalier_evaluation_metric::{Measurement, answered_samples, begin_continuations, metric, samples};
use espalier_text_metrics::Script;
use espalier_text_metrics::repetition::{distinct, repeated_share, units};

fn evaluate() -> Result<Vec<Measurement>, String> {
    let answers: Vec<String> = match samples::count() {
        0 => begin_continuations()?.iter().map(whole_text).collect(),
        _ => answered_samples()?.into_iter().map(|sample| sample.answer).collect(),
    };
    let script = Script::of(answers.iter().map(String::as_str));
    let answers: Vec<Vec<String>> = answers.iter().map(|answer| units(script, answer)).collect();
    let varied = (1..=3).filter_map(|order| {
        distinct(&answers, order).map(|share| Measurement::new(&format!("distinct-{order}"), share))
    });
    let repeated = answers.iter().filter_map(|answer| repeated_share(answer, 4));
    Ok(varied.chain(Measurement::mean("repetition.4-grams", repeated)).collect())
}

fn whole_text(session: &Session) -> String {
    let mut text = String::new();
    while let Step::Piece(piece) = session.next() {
        text.push_str(&piece.text);
    }
    text
}

metric!(evaluate);
