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

use espalier_evaluation_metric::inference::{Prompt, Sampling, Session, Step};
use espalier_evaluation_metric::{Measurement, answered_samples, metric, samples, text};
use espalier_text_metrics::Script;
use espalier_text_metrics::repetition::{distinct, repeated_share, units};

const PREFIXES: u32 = 16;
const PREFIX_TOKENS: u32 = 50;
const CONTINUATION: Sampling =
    Sampling { max_tokens: 100, temperature: 0.0, top_p: 1.0, top_k: 0, seed: 0, log_probabilities: false };

fn evaluate() -> Result<Vec<Measurement>, String> {
    let answers: Vec<String> = match samples::count() {
        0 => continuations()?,
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

fn continuations() -> Result<Vec<String>, String> {
    let prefixes = (text::token_count() / PREFIX_TOKENS).min(PREFIXES);
    if prefixes == 0 {
        let found = text::token_count();
        return Err(format!("a text of {found} tokens has nothing to continue, expected {PREFIX_TOKENS}"));
    }
    // All begin before the first is read, so that the host can compute them together.
    let sessions: Vec<Session> = (0..prefixes)
        .map(|prefix| {
            let tokens = text::tokens(prefix * PREFIX_TOKENS, PREFIX_TOKENS)?;
            Ok(Session::begin(&Prompt::Tokens(tokens), CONTINUATION)?)
        })
        .collect::<Result<_, String>>()?;
    Ok(sessions.iter().map(whole_text).collect())
}

fn whole_text(session: &Session) -> String {
    let mut text = String::new();
    while let Step::Piece(piece) = session.next() {
        text.push_str(&piece.text);
    }
    text
}

metric!(evaluate);
