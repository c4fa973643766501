//! A compiled grammar at a place of a text.

use std::fmt;

use llguidance::toktrie::SimpleVob;
use llguidance::{Matcher, TokenParser};

use super::message;

/// A text that is kept to a grammar, up to some token. Clones go on from the same place, each for itself.
#[derive(Clone)]
pub struct Constraint {
    matcher: Matcher,
    /// The tokens that may come next, where they are known.
    allowed: Option<AllowedTokens>,
}

/// A set of tokens.
#[derive(Clone)]
pub(crate) struct AllowedTokens {
    set: SimpleVob,
}

impl Constraint {
    /// At the beginning of the text.
    pub(super) fn new(parser: Result<TokenParser, impl fmt::Display>) -> Result<Self, String> {
        let parser = parser.map_err(|error| message::brief(&error))?;
        let mut constraint = Self { matcher: Matcher::new(Ok(parser)), allowed: None };
        constraint.prepare()?;
        Ok(constraint)
    }

    /// Finds out which tokens may come next, so that [`Constraint::next`] doesn't have to.
    pub(crate) fn prepare(&mut self) -> Result<(), String> {
        if self.allowed.is_none() {
            let set = self.matcher.compute_mask_or_eos().map_err(|error| message::brief(&error))?;
            self.allowed = Some(AllowedTokens { set });
        }
        Ok(())
    }

    /// The tokens that may come next, end tokens among them where the text may end here, but none that are
    /// `forbidden`; there may be none.
    pub(crate) fn next(&mut self, forbidden: &[u32]) -> Result<AllowedTokens, String> {
        self.prepare()?;
        let mut allowed = self.allowed.take().ok_or("no tokens are known")?;
        for &token in forbidden {
            if (token as usize) < allowed.set.len() {
                allowed.set.disallow_token(token);
            }
        }
        Ok(allowed)
    }

    /// Whether `tokens` can follow and the text may end then.
    #[must_use]
    pub fn accepts(&self, tokens: &[u32]) -> bool {
        let mut rest = self.clone();
        let mut follows = |token: u32| {
            rest.next(&[]).is_ok_and(|allowed| allowed.contains(token)) && rest.take(token).is_ok()
        };
        tokens.iter().all(|&token| follows(token)) && rest.matcher.is_accepting().unwrap_or(false)
    }

    /// Goes on by a token that is allowed and isn't an end token.
    pub(crate) fn take(&mut self, token: u32) -> Result<(), String> {
        self.allowed = None;
        self.matcher.consume_token(token).map_err(|error| message::brief(&error))
    }

    /// Whether nothing but the end can follow.
    pub(crate) fn is_complete(&self) -> bool {
        self.matcher.is_stopped()
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Constraint").field("is_complete", &self.is_complete()).finish_non_exhaustive()
    }
}

impl AllowedTokens {
    /// The `tokens` of a vocabulary of `vocab_size`.
    #[cfg(test)]
    pub(crate) fn of(vocab_size: usize, tokens: &[u32]) -> Self {
        let mut set = SimpleVob::alloc(vocab_size);
        for &token in tokens {
            set.allow_token(token);
        }
        Self { set }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_zero()
    }

    /// Whether a token is in it.
    pub(crate) fn contains(&self, token: u32) -> bool {
        (token as usize) < self.set.len() && self.set.is_allowed(token)
    }
}
