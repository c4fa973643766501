//! The guests that compare answers with references: the figures by which they are called, on samples whose figures one can
//! work out. That the formulas equal those of other programs is tested on 500 pairs in `tests/golden`.

use std::sync::Arc;

use espalier_components::{MetricInputs, Sample};

use crate::scripted_model::{ScriptedModel, ScriptedWriter, answered, figure, inputs, measure, sample};

/// One answer that is right and one that has nothing in common with its reference.
fn right_and_wrong() -> MetricInputs {
    answered([
        sample("the cat sat on the mat", &["the cat sat on the mat"]),
        sample("dog", &["a bird", "fish"]),
    ])
}

/// Half of the answers have all points; the standard error of 0 and `points` is points / 2.
fn assert_half(found: (f64, Option<f64>), points: f64) {
    let (value, error) = found;
    assert!((value - points / 2.0).abs() < 1e-9, "{value}");
    assert!((error.unwrap() - points / 2.0).abs() < 1e-9, "{error:?}");
}

#[test]
fn bleu_and_chrf_say_by_which_settings_they_were_computed() {
    let found = measure("bleu", right_and_wrong()).unwrap();
    assert_half(figure(&found, "bleu.sentence"), 100.0);
    // Six of seven unigrams, all of 5, 4 and 3 longer ones, 7 tokens against 7.
    let expected = 100.0 * (6.0_f64 / 7.0).powf(0.25);
    assert!((figure(&found, "bleu").0 - expected).abs() < 1e-9);
    assert_eq!(found.notes, ["nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"]);

    let chinese = answered([sample("今天天气很好。", &["今天天气很好。"])]);
    let found = measure("bleu", chinese.clone()).unwrap();
    assert!((figure(&found, "bleu").0 - 100.0).abs() < 1e-9);
    assert!(found.notes[0].contains("nrefs:1|") && found.notes[0].contains("|tok:zh|"), "{:?}", found.notes);

    let found = measure("chrf", chinese).unwrap();
    for name in ["chrf", "chrf-plus-plus"] {
        assert!((figure(&found, name).0 - 100.0).abs() < 1e-9);
    }
    assert!(found.notes[1].starts_with("chrf-plus-plus nrefs:1|case:mixed|eff:yes|nc:6|nw:2|"));
}

#[test]
fn rouge_stems_words_and_takes_chinese_by_character() {
    let found = measure("rouge", right_and_wrong()).unwrap();
    for name in ["rouge-1", "rouge-2", "rouge-l", "rouge-lsum", "rouge-1.stemmed", "rouge-lsum.stemmed"] {
        assert_half(figure(&found, name), 1.0);
    }
    let found = measure("rouge", answered([sample("今天很好", &["今天天气很好"])])).unwrap();
    assert!((figure(&found, "rouge-1").0 - 0.8).abs() < 1e-9);
    assert_eq!(found.measurements.len(), 4);
    assert_eq!(found.notes, ["the units are characters, because the references are Chinese"]);
}

#[test]
fn an_exact_match_is_one_of_the_references() {
    let samples = [sample(" Paris\n", &["Rome", "Paris"]), sample("the paris!", &["Paris"])];
    let found = measure("exact-match", answered(samples)).unwrap();
    assert_half(figure(&found, "exact-match"), 1.0);
    assert_eq!(figure(&found, "exact-match.normalised"), (1.0, Some(0.0)));
}

#[test]
fn repetition_is_measured_in_answers_or_in_continuations_of_a_text() {
    let found = measure("repetition", answered([sample("a b a b a b", &[""])])).unwrap();
    assert_eq!(figure(&found, "distinct-1"), (2.0 / 6.0, None));
    assert_eq!(figure(&found, "distinct-2"), (2.0 / 6.0, None));
    assert!((figure(&found, "repetition.4-grams").0 - 1.0 / 3.0).abs() < 1e-9);

    // Three prefixes, each continued by a hundred words, of which only four differ.
    let found = measure("repetition", inputs(ScriptedModel::new(199, 512, None))).unwrap();
    assert!((figure(&found, "distinct-3").0 - 4.0 / 300.0).abs() < 1e-9);
    assert!((figure(&found, "repetition.4-grams").0 - (1.0 - 4.0 / 97.0)).abs() < 1e-9);
    let error = measure("repetition", inputs(ScriptedModel::new(49, 512, None))).unwrap_err();
    assert!(
        error.to_string().contains("a text of 49 tokens has nothing to continue, expected 50"),
        "{error}"
    );
}

#[test]
fn speed_is_that_of_the_answers_that_the_model_gave() {
    let question = Sample { candidate: None, ..sample("", &["?"]) };
    let mut samples = vec![question; 5];
    samples[2].candidate = Some("given".to_owned());
    let found = measure("speed", answered(samples)).unwrap();
    // numpy.quantile([40, 50, 40, 200], [0.5, 0.99]) and those of [30, 30, 30, 180]
    let quantiles = [
        ("latency-p50", 45.0),
        ("latency-p99", 195.5),
        ("first-token-p50", 30.0),
        ("first-token-p99", 175.5),
    ];
    for (name, expected) in quantiles {
        let (value, error) = figure(&found, &format!("speed.{name}-ms"));
        assert!((value - expected).abs() < 1e-9 && error.is_none(), "{name} {value}");
    }
    let (per_token, error) = figure(&found, "speed.ms-per-token");
    assert!((per_token - 10.0).abs() < 1e-9 && error.unwrap() < 1e-9, "{per_token} {error:?}");
    // 2, 3, 2 and 3 tokens from the moment 0 to 80 + 200 ms.
    assert!((figure(&found, "speed.tokens-per-second").0 - 10.0 / 0.28).abs() < 1e-9);
    assert_eq!(found.notes, ["4 answers of 10 tokens in all, generated together"]);

    let found = measure("speed", answered([sample("given", &["?"])])).unwrap();
    assert_eq!(found.measurements, []);
    // Three prefixes of a text, continued.
    let found = measure("speed", inputs(ScriptedModel::new(199, 512, None))).unwrap();
    assert_eq!(figure(&found, "speed.latency-p99-ms"), (40.0, None));
    assert!((figure(&found, "speed.tokens-per-second").0 - 6.0 / 0.04).abs() < 1e-9);
}

#[test]
fn the_model_answers_where_the_data_has_no_candidate() {
    let question = Sample { candidate: None, ..sample("", &["the answer 0"]) };
    let writer = Arc::new(ScriptedWriter::default());
    let inputs = MetricInputs {
        generator: Arc::clone(&writer) as _,
        ..answered([question.clone(), sample("given", &["given"]), question])
    };
    let found = measure("exact-match", inputs).unwrap();
    assert!((figure(&found, "exact-match").0 - 2.0 / 3.0).abs() < 1e-9);
    assert_eq!(writer.answers.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[test]
fn plain_text_has_no_answers() {
    for name in ["bleu", "chrf", "rouge", "exact-match"] {
        let error = measure(name, inputs(ScriptedModel::new(100, 512, None))).unwrap_err();
        let expected = format!(
            "{name}@0.1.0 refused \"evaluate\": the data has no samples, expected JSONL with `prompt` and `reference`"
        );
        assert_eq!(error.to_string(), expected);
    }
}
