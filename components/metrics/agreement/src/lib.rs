//! Agreement with the baseline, token by token: finer than perplexity, which can stay put while the answers change.
//!
//! With p the baseline's distribution of a token and q the measured model's, means over the tokens with standard errors
//! sqrt((E[x²] − E[x]²) / (n − 1)):
//!
//! * `agreement.kl`: KL(p ‖ q) = Σ p (ln p − ln q), in nats per token.
//! * `agreement.same-top`: the share of tokens for which both have the same most probable one, 0 to 1.
//! * `agreement.loss-change`: ln p − ln q of the text's own token, in nats: the logarithm of the ratio of the perplexities,
//!   with the error of the difference, which is smaller than those of the two.
//!
//! As llama.cpp's `--kl-divergence` defines them: disjoint windows, whose first token is replaced by BOS if the model adds
//! one and of which the second half counts. At most the first 16 windows of 256 tokens. Without a baseline there are no
//! figures.

use espalier_evaluation_metric::{Measurement, baseline, inference, metric, telemetry, text};

const WINDOWS: u32 = 16;
const WINDOW_TOKENS: u32 = 256;

fn evaluate() -> Result<Vec<Measurement>, String> {
    if !baseline::available() {
        telemetry::log(telemetry::Level::Info, "there is no baseline to agree with");
        return Ok(Vec::new());
    }
    let length = WINDOW_TOKENS.min(inference::max_window());
    let windows = (text::token_count() / length).min(WINDOWS);
    if windows == 0 {
        let found = text::token_count();
        return Err(format!("a text of {found} tokens has no window, expected at least {length}"));
    }
    let mut compared = Vec::new();
    for window in 0..windows {
        let tokens = text::tokens(window * length, length)?;
        compared.extend(baseline::compare(&tokens, length / 2 + 1, true)?);
    }
    let mean = |name: &str, value: fn(&baseline::Comparison) -> f64| {
        Measurement::mean(name, compared.iter().map(value))
    };
    let figures = [
        mean("agreement.kl", |token| token.divergence),
        mean("agreement.same-top", |token| f64::from(u8::from(token.same_top))),
        mean("agreement.loss-change", |token| {
            f64::from(token.baseline_log_probability) - f64::from(token.log_probability)
        }),
    ];
    Ok(figures.into_iter().flatten().collect())
}

metric!(evaluate);
