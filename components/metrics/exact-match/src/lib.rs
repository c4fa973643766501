//! Exact match: the share of answers that are one of their references, 0 to 1, with its standard error.
//!
//! * `exact-match`: but for white space at the ends.
//! * `exact-match.normalised`: after SQuAD's normalisation of case, punctuation, articles and white space (Rajpurkar et
//!   al., EMNLP 2016).
//!
//! The comparisons are in `espalier_text_metrics::exact_match`.

use espalier_evaluation_metric::{AnsweredSample, Measurement, answered_samples, metric};
use espalier_text_metrics::exact_match::{is_match, is_normalised_match};

fn evaluate() -> Result<Vec<Measurement>, String> {
    let samples = answered_samples()?;
    let share = |name: &str, is_right: fn(&str, &[String]) -> bool| {
        let right =
            |sample: &AnsweredSample| f64::from(u8::from(is_right(&sample.answer, &sample.references)));
        Measurement::mean(name, samples.iter().map(right))
    };
    let strict = share("exact-match", is_match);
    Ok(strict.into_iter().chain(share("exact-match.normalised", is_normalised_match)).collect())
}

metric!(evaluate);
