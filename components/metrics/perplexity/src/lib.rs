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

use espalier_evaluation_metric::{Error, Guest, Identity, Measurement, inference, telemetry, text};

/// Tokens of a chunk in llama.cpp's convention.
const CHUNK: u32 = 512;
/// Tokens between two windows in Hugging Face's convention.
const STRIDE: u32 = 512;

struct Perplexity;

impl Guest for Perplexity {
    fn describe() -> Identity {
        Identity {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Perplexity in llama.cpp's and Hugging Face's conventions, and bits per byte".to_owned(),
        }
    }

    fn evaluate() -> Result<Vec<Measurement>, String> {
        let tokens = text::token_count();
        if tokens < 2 {
            return Err(format!("a text of {tokens} tokens has nothing to predict, expected at least 2"));
        }
        let mut measurements = Vec::new();
        if tokens >= 2 * CHUNK && inference::max_window() >= CHUNK {
            measurements.push(chunks(tokens)?);
        } else {
            let needed = 2 * CHUNK;
            telemetry::log(
                telemetry::Level::Info,
                &format!(
                    "perplexity.chunks needs {needed} tokens and windows of {CHUNK}, the text has {tokens}"
                ),
            );
        }
        measurements.extend(strides(tokens)?);
        Ok(measurements)
    }
}

/// Perplexity as llama.cpp counts it.
fn chunks(tokens: u32) -> Result<Measurement, String> {
    let (mut sum, mut squares, mut count) = (0.0, 0.0, 0.0);
    for chunk in 0..tokens / CHUNK {
        let window = text::tokens(chunk * CHUNK, CHUNK).map_err(words)?;
        let scored = inference::log_probabilities(&window, CHUNK / 2 + 1, true).map_err(words)?;
        for log_probability in scored {
            let nll = -f64::from(log_probability);
            sum += nll;
            squares += nll * nll;
            count += 1.0;
        }
    }
    let mean: f64 = sum / count;
    let value = mean.exp();
    let variance = (squares / count - mean * mean).max(0.0);
    let standard_error = Some(value * (variance / (count - 1.0)).sqrt());
    Ok(Measurement { name: "perplexity.chunks".to_owned(), value, standard_error })
}

/// Perplexity as Hugging Face's guide counts it, and bits per byte from the same windows.
fn strides(tokens: u32) -> Result<Vec<Measurement>, String> {
    let window_limit = inference::max_window();
    let stride = STRIDE.min(window_limit);
    let (mut weighted, mut weights, mut total) = (0.0, 0.0, 0.0);
    let (mut begin, mut scored_end) = (0_u32, 0_u32);
    while scored_end < tokens {
        let end = begin.saturating_add(window_limit).min(tokens);
        let window = text::tokens(begin, end - begin).map_err(words)?;
        // Nothing precedes the first token of the text.
        let score_from = (scored_end - begin).max(1);
        let scored = inference::log_probabilities(&window, score_from, false).map_err(words)?;
        let nll: f64 = scored.iter().map(|log_probability| -f64::from(*log_probability)).sum();
        total += nll;
        let weight = f64::from(end - scored_end) - 1.0;
        if !scored.is_empty() {
            weighted += nll / scored.len() as f64 * weight;
            weights += weight;
        }
        (begin, scored_end) = (begin + stride, end);
    }
    let bytes = text::byte_count(1, tokens - 1).map_err(words)?;
    let mut measurements = Vec::new();
    let mut push = |name: &str, value: f64| {
        measurements.push(Measurement { name: name.to_owned(), value, standard_error: None });
    };
    if weights > 0.0 {
        push("perplexity.stride", (weighted / weights).exp());
    }
    if bytes > 0 {
        push("bits-per-byte", total / std::f64::consts::LN_2 / bytes as f64);
    }
    Ok(measurements)
}

fn words(error: Error) -> String {
    match error {
        Error::ShapeMismatch(text)
        | Error::InvalidArgument(text)
        | Error::TooLarge(text)
        | Error::Unavailable(text) => text,
    }
}

espalier_evaluation_metric::export!(Perplexity);
