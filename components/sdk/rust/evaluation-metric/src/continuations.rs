//! Continuations of pieces of the evaluation text: what a model writes where the data asks it nothing.

use crate::inference::{Prompt, Sampling, Session};
use crate::text;

const PREFIXES: u32 = 16;
const PREFIX_TOKENS: u32 = 50;
const SAMPLING: Sampling =
    Sampling { max_tokens: 100, temperature: 0.0, top_p: 1.0, top_k: 0, seed: 0, log_probabilities: false };

/// Begins the most probable 100 tokens after each of the first 16 prefixes of 50 tokens (Welleck et al., ICLR 2020). All have
/// begun when it returns, so that the host can compute them together. The error says that the text is too short.
pub fn begin_continuations() -> Result<Vec<Session>, String> {
    let prefixes = (text::token_count() / PREFIX_TOKENS).min(PREFIXES);
    if prefixes == 0 {
        let found = text::token_count();
        return Err(format!("a text of {found} tokens has nothing to continue, expected {PREFIX_TOKENS}"));
    }
    (0..prefixes)
        .map(|prefix| {
            let tokens = text::tokens(prefix * PREFIX_TOKENS, PREFIX_TOKENS)?;
            Ok(Session::begin(&Prompt::Tokens(tokens), SAMPLING)?)
        })
        .collect()
}
