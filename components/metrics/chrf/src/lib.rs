//! chrF2 and chrF2++ of the answers, equal to sacrebleu 2.6.0.
//!
//! * `chrf`: the F-score of n-grams of 1 to 6 characters, recall weighing twice as much as precision, over all samples
//!   together, 0 to 100 (Popović, WMT 2015).
//! * `chrf-plus-plus`: the same with n-grams of one and two words (Popović, WMT 2017).
//!
//! The formula is in `espalier_text_metrics::chrf`; the report shows sacrebleu's signatures.

use espalier_evaluation_metric::{Measurement, answered_samples, metric, report};
use espalier_text_metrics::chrf::{Statistics, Variant};
use espalier_text_metrics::reference_count;

fn evaluate() -> Result<Vec<Measurement>, String> {
    let samples = answered_samples()?;
    let references = reference_count(samples.iter().map(|sample| sample.references.len()));
    let figures = [("chrf", Variant::Chrf), ("chrf-plus-plus", Variant::ChrfPlusPlus)];
    let measure = |(name, variant): (&str, Variant)| {
        report::note(&format!("{name} {}", variant.signature(&references)));
        let mut all = Statistics::default();
        for sample in &samples {
            all.add(&Statistics::of(variant, &sample.answer, &sample.references));
        }
        Measurement::new(name, all.score())
    };
    Ok(figures.into_iter().map(measure).collect())
}

metric!(evaluate);
