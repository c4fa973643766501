//! Perplexity in the two conventions that published figures use, and bits per byte.
//!
//! * `perplexity.chunks`: llama.cpp's (`tools/perplexity`, context 512). Disjoint chunks of 512 tokens, whose first
//!   token is replaced by BOS if the model adds one; only the targets at the positions 257 to 511 count. Measured when
//!   the text has at least two chunks. The standard error is exp(mean) · sqrt((E[nll²] − E[nll]²) / (n − 1)).
//! * `perplexity.stride`: that of Hugging Face's guide "Perplexity of fixed-length models". Windows of the longest
//!   length that the model takes, 512 tokens apart; each token counts in the first window that holds it, and a window
//!   weighs its targets less one (the guide subtracts one for the shift of the labels in every window).
//! * `bits-per-byte`: the negative log-likelihood of every token but the first, in the windows of `perplexity.stride`,
//!   in bits, over the bytes that these tokens stand for. Comparable between models with different tokenizers.
//!
//! nll is −ln p of a target given what precedes it in its window.

use espalier_evaluation_metric::{Measurement, inference, metric, telemetry, text};

/// Tokens of a chunk in llama.cpp's convention.
const CHUNK: u32 = 512;
/// Tokens between two windows in Hugging Face's convention.
const STRIDE: u32 = 512;

fn evaluate() -> Result<Vec<Measurement>, String> {
    let tokens = text::token_count();
    if tokens < 2 {
        return Err(format!("a text of {tokens} tokens has nothing to predict, expected at least 2"));
    }
    let mut measurements = Vec::new();
    if tokens >= 2 * CHUNK && inference::max_window() >= CHUNK {
        measurements.extend(chunks(tokens)?);
    } else {
        let needed = 2 * CHUNK;
        telemetry::log(
            telemetry::Level::Info,
            &format!("perplexity.chunks needs {needed} tokens and windows of {CHUNK}, the text has {tokens}"),
        );
    }
    measurements.extend(strides(tokens)?);
    Ok(measurements)
}

/// Perplexity as llama.cpp counts it; none for a text without a whole chunk.
fn chunks(tokens: u32) -> Result<Option<Measurement>, String> {
    let mut losses = Vec::new();
    for chunk in 0..tokens / CHUNK {
        let window = text::tokens(chunk * CHUNK, CHUNK)?;
        let scored = inference::log_probabilities(&window, CHUNK / 2 + 1, true)?;
        losses.extend(scored.into_iter().map(|log_probability| -f64::from(log_probability)));
    }
    Ok(Measurement::mean("perplexity.chunks", losses).map(|loss| {
        let value = loss.value.exp();
        Measurement { value, standard_error: loss.standard_error.map(|error| value * error), ..loss }
    }))
}

/// Perplexity as Hugging Face's guide counts it, and bits per byte from the same windows.
fn strides(tokens: u32) -> Result<Vec<Measurement>, String> {
    let window_limit = inference::max_window();
    let stride = STRIDE.min(window_limit);
    let (mut weighted, mut weights, mut total) = (0.0, 0.0, 0.0);
    let (mut begin, mut scored_end) = (0_u32, 0_u32);
    while scored_end < tokens {
        let end = begin.saturating_add(window_limit).min(tokens);
        let window = text::tokens(begin, end - begin)?;
        // Nothing precedes the first token of the text.
        let score_from = (scored_end - begin).max(1);
        let scored = inference::log_probabilities(&window, score_from, false)?;
        let nll: f64 = scored.iter().map(|log_probability| -f64::from(*log_probability)).sum();
        total += nll;
        let weight = f64::from(end - scored_end) - 1.0;
        if !scored.is_empty() {
            weighted += nll / scored.len() as f64 * weight;
            weights += weight;
        }
        (begin, scored_end) = (begin + stride, end);
    }
    let bytes = text::byte_count(1, tokens - 1)?;
    let stride = (weights > 0.0).then(|| Measurement::new("perplexity.stride", (weighted / weights).exp()));
    let bits =
        (bytes > 0).then(|| Measurement::new("bits-per-byte", total / std::f64::consts::LN_2 / bytes as f64));
    Ok(stride.into_iter().chain(bits).collect())
}

metric!(evaluate);
