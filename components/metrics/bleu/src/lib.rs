//! BLEU of the answers, equal to sacrebleu 2.6.0.
//!
//! * `bleu`: over all samples together, 0 to 100: 100 · BP · exp(¼ Σ ln p_n) (Papineni et al., ACL 2002).
//! * `bleu.sentence`: the mean over the samples of each one's own BLEU, with its standard error.
//!
//! The tokenizer is sacrebleu's `zh` where the references are mostly Chinese and `13a` otherwise; the signature, which the
//! report shows, says which. The formula and its smoothing are in `espalier_text_metrics::bleu`.

use espalier_evaluation_metric::{Measurement, answered_samples, metric, report};
use espalier_text_metrics::{Script, Tokenizer, bleu, reference_count};

fn evaluate() -> Result<Vec<Measurement>, String> {
    let samples = answered_samples()?;
    let references = samples.iter().flat_map(|sample| &sample.references);
    let tokenizer = Tokenizer::for_script(Script::of(references.map(String::as_str)));
    let each: Vec<bleu::Statistics> = samples
        .iter()
        .map(|sample| bleu::Statistics::of(tokenizer, &sample.answer, &sample.references))
        .collect();
    let mut all = bleu::Statistics::default();
    each.iter().for_each(|statistics| all.add(statistics));
    let references = reference_count(samples.iter().map(|sample| sample.references.len()));
    report::note(&bleu::signature(tokenizer, &references));

    let corpus = Measurement::new("bleu", all.corpus_score());
    let sentences = Measurement::mean("bleu.sentence", each.iter().map(bleu::Statistics::sentence_score));
    Ok([corpus].into_iter().chain(sentences).collect())
}

metric!(evaluate);
