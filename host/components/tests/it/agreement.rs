//! The guest `agreement` against a plain computation of its means, on scripted models.

use std::sync::Arc;

use espalier_components::MetricInputs;

use crate::scripted_model::{ScriptedModel, comparison, figure, inputs, measure};

const BOS: u32 = 1;

/// The mean and its standard error, from the definitions.
fn mean(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let mean_square = values.iter().map(|value| value * value).sum::<f64>() / n;
    (mean, ((mean_square - mean * mean) / (n - 1.0)).sqrt())
}

#[test]
fn it_is_the_mean_over_the_second_halves_of_windows() {
    // Seven windows of 256 and a rest; a shorter window; more windows than are measured.
    for (tokens, max_window, windows) in [(2_000, 1_024, 7), (2_000, 100, 16), (5_000, 512, 16)] {
        let model = ScriptedModel::new(tokens, max_window, Some(BOS));
        let length = max_window.min(256);
        let compared: Vec<_> = model
            .tokens
            .chunks_exact(length)
            .take(windows)
            .flat_map(|window| {
                let window = [&[BOS], &window[1..]].concat();
                (length / 2 + 1..length)
                    .map(move |position| comparison(&window, position))
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(compared.len(), windows * (length / 2 - 1));
        let inputs =
            MetricInputs { baseline: Some(Arc::clone(&model) as _), ..inputs(Arc::clone(&model) as _) };
        let found = measure("agreement", inputs).unwrap();
        let expected = [
            ("agreement.kl", mean(&compared.iter().map(|token| token.divergence).collect::<Vec<_>>())),
            (
                "agreement.same-top",
                mean(&compared.iter().map(|token| f64::from(u8::from(token.same_top))).collect::<Vec<_>>()),
            ),
            (
                "agreement.loss-change",
                mean(
                    &compared
                        .iter()
                        .map(|token| {
                            f64::from(token.baseline_log_probability) - f64::from(token.log_probability)
                        })
                        .collect::<Vec<_>>(),
                ),
            ),
        ];
        for (name, (mean, error)) in expected {
            let (found_mean, found_error) = figure(&found, name);
            assert!((found_mean - mean).abs() < 1e-9, "{name} is {found_mean} instead of {mean}");
            assert!(
                (found_error.unwrap() - error).abs() < 1e-9,
                "{name} ± {found_error:?} instead of {error}"
            );
        }
    }
}

#[test]
fn without_a_baseline_there_is_nothing_to_agree_with() {
    let model = ScriptedModel::new(2_000, 1_024, None);
    assert!(measure("agreement", inputs(model)).unwrap().measurements.is_empty());
    let short = ScriptedModel::new(200, 1_024, None);
    let inputs = MetricInputs { baseline: Some(Arc::clone(&short) as _), ..inputs(short as _) };
    let error = measure("agreement", inputs).unwrap_err();
    assert!(
        error.to_string().contains("a text of 200 tokens has no window, expected at least 256"),
        "{error}"
    );
}
