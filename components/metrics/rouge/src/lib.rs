//! ROUGE of the answers, equal to rouge-score 0.1.2: the means over the samples of F, 0 to 1, with standard errors.
//!
//! * `rouge-1`, `rouge-2`: single words and pairs of words (Lin, 2004).
//! * `rouge-l`: the longest common subsequence.
//! * `rouge-lsum`: the same sentence by sentence, where a line is a sentence.
//! * the same names with `.stemmed`: of the words' stems (`use_stemmer=True`).
//!
//! Where the references are mostly Chinese, characters are the units and there are no stems. The formulas are in
//! `espalier_text_metrics::rouge`.

use espalier_evaluation_metric::{AnsweredSample, Measurement, answered_samples, metric, report};
use espalier_text_metrics::Script;
use espalier_text_metrics::rouge::{Scores, Units};

fn evaluate() -> Result<Vec<Measurement>, String> {
    let samples = answered_samples()?;
    let references = samples.iter().flat_map(|sample| &sample.references);
    let script = Script::of(references.map(String::as_str));
    let mut measurements = means(&samples, Units::for_script(script), "");
    match script {
        Script::Spaced => measurements.extend(means(&samples, Units::Stems, ".stemmed")),
        Script::Chinese => report::note("the units are characters, because the references are Chinese"),
    }
    Ok(measurements)
}

type Figure = fn(&Scores) -> f64;

fn means(samples: &[AnsweredSample], units: Units, suffix: &str) -> Vec<Measurement> {
    let scores: Vec<Scores> =
        samples.iter().map(|sample| Scores::of(units, &sample.answer, &sample.references)).collect();
    let figures: [(&str, Figure); 4] = [
        ("rouge-1", |scores| scores.rouge_1),
        ("rouge-2", |scores| scores.rouge_2),
        ("rouge-l", |scores| scores.rouge_l),
        ("rouge-lsum", |scores| scores.rouge_lsum),
    ];
    figures
        .into_iter()
        .filter_map(|(name, figure)| Measurement::mean(&[name, suffix].concat(), scores.iter().map(figure)))
        .collect()
}

metric!(evaluate);
