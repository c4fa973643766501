//! `espalier:kernels/inference`, all but its sessions.

use std::sync::Arc;

use wasmtime::component::Resource;

use crate::MetricInputs;
use crate::bindings::interfaces::inference::Host;
use crate::bindings::interfaces::types::Error;
use crate::context::{Context, HostTensor};
use crate::instance::InputFailed;

impl Host for Context {
    fn max_window(&mut self) -> wasmtime::Result<u32> {
        self.host_call(|context| {
            let window = context.measured()?.scorer.max_window();
            Ok(u32::try_from(window).unwrap_or(u32::MAX))
        })
    }

    fn log_probabilities(
        &mut self,
        window: Vec<u32>,
        score_from: u32,
        replace_first_by_bos: bool,
    ) -> wasmtime::Result<Result<Vec<f32>, Error>> {
        self.host_call(|context| {
            let measured = context.measured()?;
            let window = match Window::parse(measured, window, score_from, replace_first_by_bos) {
                Ok(window) => window,
                Err(error) => return Ok(Err(error)),
            };
            window.score(|tokens, from| measured.scorer.log_probabilities(tokens, from)).map(Ok)
        })
    }

    fn hidden_states(
        &mut self,
        window: Vec<u32>,
        layers: u32,
    ) -> wasmtime::Result<Result<Resource<HostTensor>, Error>> {
        self.host_call(|context| {
            let measured = context.measured()?;
            if let Err(error) = check_window(measured, &window) {
                return Ok(Err(error));
            }
            let (wanted, found) =
                (usize::try_from(layers).unwrap_or(usize::MAX), measured.facts.layers.len());
            if wanted > found {
                return Ok(Err(Error::InvalidArgument(format!("{layers} layers, expected 0 to {found}"))));
            }
            let width = usize::try_from(measured.facts.hidden_size).unwrap_or(usize::MAX);
            let scorer = Arc::clone(&measured.scorer);
            context.reserve(window.len().saturating_mul(width))?;
            let states = scorer.hidden_states(&window, wanted).map_err(InputFailed)?;
            context.keep(Arc::new(states)).map(Ok)
        })
    }

    fn context_length(&mut self) -> wasmtime::Result<u32> {
        self.host_call(|context| {
            let length = context.measured()?.generator.context_length().map_err(InputFailed)?;
            Ok(u32::try_from(length).unwrap_or(u32::MAX))
        })
    }
}

/// A window of tokens of which those from a position on are scored: `1 <= score_from <= tokens.len() <= max_window`.
pub(super) struct Window {
    tokens: Vec<u32>,
    score_from: usize,
}

impl Window {
    /// Checks what a guest asks to be scored.
    pub(super) fn parse(
        measured: &MetricInputs,
        mut tokens: Vec<u32>,
        score_from: u32,
        replace_first_by_bos: bool,
    ) -> Result<Self, Error> {
        check_window(measured, &tokens)?;
        let from = usize::try_from(score_from).unwrap_or(usize::MAX);
        if from == 0 || from > tokens.len() {
            let limit = tokens.len();
            return Err(Error::InvalidArgument(format!("score-from {score_from}, expected 1 to {limit}")));
        }
        if let (true, Some(bos), Some(first)) =
            (replace_first_by_bos, measured.scorer.beginning_of_sequence(), tokens.first_mut())
        {
            *first = bos;
        }
        Ok(Self { tokens, score_from: from })
    }

    /// One value for each scored token; the model is not asked where there is none.
    pub(super) fn score<T>(
        &self,
        score: impl FnOnce(&[u32], usize) -> Result<Vec<T>, crate::InputError>,
    ) -> wasmtime::Result<Vec<T>> {
        let expected = self.tokens.len() - self.score_from;
        if expected == 0 {
            return Ok(Vec::new());
        }
        let values = score(&self.tokens, self.score_from).map_err(InputFailed)?;
        if values.len() != expected {
            let found = values.len();
            let reason = format!("the model scored {found} tokens instead of {expected}");
            return Err(InputFailed(reason.into()).into());
        }
        Ok(values)
    }
}

/// Fails unless the window has a token, as many as the model takes at most, and all of them are in the vocabulary.
fn check_window(measured: &MetricInputs, tokens: &[u32]) -> Result<(), Error> {
    let (found, limit) = (tokens.len(), measured.scorer.max_window());
    if found == 0 || found > limit {
        return Err(Error::InvalidArgument(format!("a window of {found} tokens, expected 1 to {limit}")));
    }
    check_tokens(measured, tokens)
}

/// Fails unless all tokens are in the vocabulary.
pub(super) fn check_tokens(measured: &MetricInputs, tokens: &[u32]) -> Result<(), Error> {
    let vocabulary = measured.facts.vocab_size;
    match tokens.iter().find(|token| **token >= vocabulary) {
        Some(token) => Err(Error::InvalidArgument(format!("token {token} of a vocabulary of {vocabulary}"))),
        None => Ok(()),
    }
}
