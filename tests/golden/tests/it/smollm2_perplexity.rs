//! Perplexity of the committed text in both conventions, from the model's logits alone. That the perplexity component
//! computes the same is tested where components run; this holds the model underneath it to the reference.

use espalier_golden::distance::log_sum_exp;
use espalier_golden::smollm2::{Perplexities, TextTokens, read_json};
use espalier_kernels::Precision;
use espalier_model::Model;

use crate::loaded;

/// Negative log-likelihoods of `tokens[1..]`.
fn losses(model: &Model, tokens: &[u32]) -> Vec<f64> {
    let vocabulary = model.spec().vocab_size;
    let mut losses = Vec::with_capacity(tokens.len());
    model
        .score(
            tokens,
            Precision::Fast,
            None,
            Some(&mut |position, rows| {
                for (row, target) in rows.chunks_exact(vocabulary).zip(tokens.iter().skip(position + 1)) {
                    losses.push(log_sum_exp(row) - f64::from(row[*target as usize]));
                }
            }),
        )
        .unwrap();
    losses
}

fn assert_near(convention: &str, mean_loss: f64, expected: f64) {
    let found = mean_loss.exp();
    println!("{convention}: {found:.4}, reference {expected:.4}");
    assert!(
        (found / expected - 1.0).abs() <= 0.005,
        "{convention}: perplexity {found}, reference {expected}"
    );
}

fn mean(losses: &[f64]) -> f64 {
    losses.iter().sum::<f64>() / losses.len() as f64
}

#[test]
fn perplexity_equals_the_reference_in_both_conventions() {
    let golden: Perplexities = read_json("smollm2-perplexity.json").unwrap();
    let tokens: TextTokens = read_json("smollm2-tokens.json").unwrap();
    let tokens = tokens.ids;
    assert_eq!(tokens.len(), golden.tokens);
    let loaded = loaded::smollm2();

    for figure in golden.llama_cpp {
        let chunks = tokens.chunks_exact(figure.context);
        let scored: Vec<f64> =
            chunks.flat_map(|chunk| losses(&loaded.1, chunk).split_off(figure.context / 2)).collect();
        assert_eq!(scored.len(), figure.scored_tokens);
        assert_near("llama.cpp", mean(&scored), figure.perplexity);
    }
    for figure in golden.hugging_face {
        let (mut weighted, mut weights, mut count, mut scored_to, mut start) = (0.0, 0.0, 0, 0_usize, 0);
        while scored_to < tokens.len() {
            let end = (start + figure.window).min(tokens.len());
            let window = losses(&loaded.1, &tokens[start..end]);
            let scored = &window[scored_to.saturating_sub(start + 1)..];
            // The guide weighs a window by its new tokens less one.
            let weight = (end - scored_to - 1) as f64;
            weighted += mean(scored) * weight;
            weights += weight;
            count += scored.len();
            (scored_to, start) = (end, start + figure.stride);
        }
        assert_eq!(count, figure.scored_tokens);
        assert_near(
            &format!("Hugging Face, window {}", figure.window),
            weighted / weights,
            figure.perplexity,
        );
    }
}
