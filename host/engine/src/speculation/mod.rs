//! Speculative decoding: tokens are guessed ahead, and the model checks all of them in one pass.
//!
//! A decode step reads every weight for one token; reading them for a few tokens more costs little. Guesses come from
//! the text itself ([`ngram`]) or from a smaller model ([`draft`]), longer while they are right ([`pace`]).
//!
//! Guarantees: guesses change when tokens come and never which. At each position the sequence's own sampler draws from
//! the model's logits as it would without guesses; a guess is right if it is what was drawn, and the first wrong one
//! ends the run. Leviathan et al., "Fast Inference from Transformers via Speculative Decoding" (ICML 2023), keep more
//! guesses by comparing both models' distributions, but then the draws depend on the guesses, and a seed no longer names
//! one text.

mod draft;
mod ngram;
mod pace;

use std::sync::Arc;

use espalier_model::{Model, ModelError};

use self::draft::{Draft, Wish};
use crate::config::Limits;
use crate::error::EngineError;
use crate::sequence::Sequence;

pub(crate) use self::pace::Pace;

/// Rows of a step, guesses included, up to which more rows cost little: the weights have to be read anyway.
const CHEAP_ROWS: usize = 16;

/// Where guesses come from.
pub(crate) struct Speculation {
    draft: Option<Draft>,
}

impl Speculation {
    /// Guesses by `draft`, with the memory that `limits` says, or from the texts themselves.
    ///
    /// # Errors
    /// A draft's cache that cannot be allocated.
    pub(crate) fn new(draft: Option<(Arc<Model>, Limits)>) -> Result<Self, EngineError> {
        let draft = draft.map(|(model, limits)| Draft::new(model, limits)).transpose()?;
        Ok(Self { draft })
    }

    /// Bytes that a draft's keys and values take.
    pub(crate) fn kv_bytes(&self) -> usize {
        self.draft.as_ref().map_or(0, Draft::kv_bytes)
    }

    /// Leaves a guess with each of `running` that decodes and whose pace asks for one.
    pub(crate) fn guess(&mut self, running: &mut [Sequence]) {
        let decoding = running.iter().filter(|sequence| sequence.is_decoding()).count();
        let most = (CHEAP_ROWS / decoding.max(1)).saturating_sub(1);
        let counts: Vec<usize> = running.iter().map(|sequence| sequence.wanted_guesses().min(most)).collect();
        let guesses = match &mut self.draft {
            None => running
                .iter()
                .zip(&counts)
                .map(|(sequence, count)| ngram::propose(&sequence.tokens, *count))
                .collect(),
            Some(draft) => by_draft(draft, running, &counts).unwrap_or_else(|error| {
                tracing::error!(error = %error, "the draft failed and guesses no more");
                self.draft = None;
                vec![Vec::new(); running.len()]
            }),
        };
        for (sequence, guess) in running.iter_mut().zip(guesses) {
            sequence.guess = guess;
        }
    }
}

/// Guesses by `draft`, as many for each sequence as `counts` says at the most.
fn by_draft(draft: &mut Draft, running: &[Sequence], counts: &[usize]) -> Result<Vec<Vec<u32>>, ModelError> {
    draft.keep_only(&running.iter().map(|sequence| sequence.arrival).collect());
    let wanting: Vec<usize> = (0..running.len()).filter(|index| counts[*index] > 0).collect();
    let wish = |index: &usize| {
        let Sequence { arrival, tokens, cache_salt, .. } = &running[*index];
        Wish { arrival: *arrival, tokens, salt: cache_salt.clone(), count: counts[*index] }
    };
    let wishes: Vec<Wish<'_>> = wanting.iter().map(wish).collect();
    let mut guesses = vec![Vec::new(); running.len()];
    for (index, guess) in wanting.into_iter().zip(draft.propose(&wishes)?) {
        guesses[index] = guess;
    }
    Ok(guesses)
}
