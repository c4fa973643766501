//! The guest `perplexity` against plain computations of both conventions, on a scripted model.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use espalier_components::{ComponentError, Host, HostConfig, InputError, MetricReport, TextScorer};
use espalier_kernels::Tensor;

use crate::guests::metric;
use crate::scripted_model::{ScriptedModel, figure, inputs, log_probability, measure};

const BOS: u32 = 1;

fn perplexity(model: &Arc<ScriptedModel>) -> Result<MetricReport, ComponentError> {
    measure("perplexity", inputs(Arc::clone(model) as Arc<dyn TextScorer>))
}

/// llama.cpp's tools/perplexity: second half of disjoint chunks of 512.
fn chunks(model: &ScriptedModel) -> (f64, f64) {
    let mut nlls = Vec::new();
    for chunk in model.tokens.chunks_exact(512) {
        let mut chunk = chunk.to_vec();
        chunk[0] = model.bos.unwrap_or(chunk[0]);
        nlls.extend((257..512).map(|position| -f64::from(log_probability(&chunk, position))));
    }
    let n = nlls.len() as f64;
    let mean = nlls.iter().sum::<f64>() / n;
    let mean_square = nlls.iter().map(|nll| nll * nll).sum::<f64>() / n;
    (mean.exp(), mean.exp() * ((mean_square - mean * mean) / (n - 1.0)).sqrt())
}

/// The loop of Hugging Face's guide "Perplexity of fixed-length models", line by line; and bits per byte.
fn strides(model: &ScriptedModel) -> (f64, f64) {
    let (mut nll_sum, mut n_tokens, mut prev_end_loc) = (0.0, 0.0, 0);
    let (mut bits, mut bytes) = (0.0, 0.0);
    let seq_len = model.tokens.len();
    for begin_loc in (0..seq_len).step_by(512) {
        let end_loc = (begin_loc + model.max_window).min(seq_len);
        let trg_len = end_loc - prev_end_loc;
        let input = &model.tokens[begin_loc..end_loc];
        // The loss is the mean over the targets that are not masked, after the shift by one.
        let first = (input.len() - trg_len).max(1);
        let losses: Vec<f64> =
            (first..input.len()).map(|position| -f64::from(log_probability(input, position))).collect();
        let loss = losses.iter().sum::<f64>() / losses.len() as f64;
        let num_loss_tokens = (trg_len - 1) as f64;
        nll_sum += loss * num_loss_tokens;
        n_tokens += num_loss_tokens;
        bits += losses.iter().sum::<f64>() / 2_f64.ln();
        prev_end_loc = end_loc;
        if end_loc == seq_len {
            break;
        }
    }
    bytes += model.byte_count(1..seq_len) as f64;
    ((nll_sum / n_tokens).exp(), bits / bytes)
}

fn assert_measures(found: &MetricReport, name: &str, expected: f64) -> Option<f64> {
    let (value, standard_error) = figure(found, name);
    let relative = (value - expected).abs() / expected;
    assert!(relative < 1e-9, "{name} is {value} instead of {expected}");
    standard_error
}

#[test]
fn both_conventions_are_those_of_their_tools() {
    for (tokens, window, bos) in [(2_000, 1_024, Some(BOS)), (1_024, 512, None), (1_700, 700, Some(BOS))] {
        let model = ScriptedModel::new(tokens, window, bos);
        let found = perplexity(&model).unwrap();
        let (expected, error) = chunks(&model);
        let found_error = assert_measures(&found, "perplexity.chunks", expected).unwrap();
        assert!((found_error - error).abs() / error < 1e-6, "{found_error} instead of {error}");
        let (expected, bits) = strides(&model);
        assert_eq!(assert_measures(&found, "perplexity.stride", expected), None);
        assert_measures(&found, "bits-per-byte", bits);
        assert_eq!(found.measurements.len(), 3);
    }
}

#[test]
fn a_short_text_has_no_chunks() {
    let model = ScriptedModel::new(300, 1_024, Some(BOS));
    let found = perplexity(&model).unwrap().measurements;
    let names: Vec<_> = found.into_iter().map(|measurement| measurement.name).collect();
    assert_eq!(names, ["perplexity.stride", "bits-per-byte"]);
    let error = perplexity(&ScriptedModel::new(1, 1_024, None)).unwrap_err();
    assert!(error.to_string().contains("a text of 1 tokens has nothing to predict"), "{error}");
}

#[test]
fn a_cancelled_job_ends_the_evaluation_with_its_own_error() {
    let model = Arc::new(ScriptedModel {
        fails_after: 2,
        ..Arc::into_inner(ScriptedModel::new(4_096, 512, None)).unwrap()
    });
    let error = perplexity(&model).unwrap_err();
    assert!(
        matches!(&error, ComponentError::Input { source, .. } if source.to_string() == "the job was cancelled")
    );
    assert_eq!(error.to_string(), "perplexity@0.1.0 could not go on in \"evaluate\": the job was cancelled");
    assert_eq!(model.calls.load(Ordering::Relaxed), 3);
}

#[test]
fn time_inside_the_model_is_not_the_guests() {
    struct Slow(Arc<ScriptedModel>);
    impl TextScorer for Slow {
        fn tokens(&self) -> &[u32] {
            self.0.tokens()
        }
        fn byte_count(&self, tokens: Range<usize>) -> u64 {
            self.0.byte_count(tokens)
        }
        fn beginning_of_sequence(&self) -> Option<u32> {
            None
        }
        fn max_window(&self) -> usize {
            512
        }
        fn log_probabilities(&self, window: &[u32], from: usize) -> Result<Vec<f32>, InputError> {
            std::thread::sleep(std::time::Duration::from_millis(200));
            self.0.log_probabilities(window, from)
        }
        fn hidden_states(&self, window: &[u32], layers: usize) -> Result<Tensor, InputError> {
            self.0.hidden_states(window, layers)
        }
    }
    let mut config = HostConfig::default();
    config.metric.guest_time = std::time::Duration::from_millis(500);
    let evaluate = |config| {
        let host = Host::new(config).unwrap();
        metric(&host, "perplexity").evaluate(inputs(Arc::new(Slow(ScriptedModel::new(1_024, 512, None)))))
    };
    // Four windows: 800 ms in the model, far less in the guest.
    assert_eq!(evaluate(config.clone()).unwrap().measurements.len(), 3);
    config.metric.wall_time = std::time::Duration::from_millis(300);
    let error = evaluate(config).unwrap_err();
    assert_eq!(
        error.to_string(),
        "perplexity@0.1.0 was stopped in \"evaluate\": the call took longer than 300ms"
    );
}
