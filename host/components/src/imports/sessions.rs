//! `espalier:kernels/inference`'s sessions: continuations that a guest reads piece by piece.

use std::sync::Arc;

use wasmtime::component::Resource;

use super::inference::check_tokens;
use crate::bindings::interfaces::inference::{
    FinishReason, HostSession as HostSessionMethods, Piece, Prompt, Sampling as GuestSampling, Step, Timing,
};
use crate::bindings::interfaces::types::Error;
use crate::context::{Context, HostSession};
use crate::instance::InputFailed;
use crate::{GenerationTiming, MetricInputs, Sampling, StreamStep};

impl HostSessionMethods for Context {
    fn begin(
        &mut self,
        prompt: Prompt,
        sampling: GuestSampling,
    ) -> wasmtime::Result<Result<Resource<HostSession>, Error>> {
        self.host_call(|context| {
            let checked = match check_sampling(&sampling) {
                Ok(checked) => checked,
                Err(error) => return Ok(Err(error)),
            };
            let measured = context.measured()?;
            let generator = Arc::clone(&measured.generator);
            let tokens = match prompt {
                Prompt::Text(text) => generator.encode(&text).map_err(InputFailed)?,
                Prompt::Tokens(tokens) => tokens,
            };
            let room = generator.context_length().map_err(InputFailed)?;
            if let Err(error) = check_prompt(measured, &tokens, room) {
                return Ok(Err(error));
            }
            context.reserve_session(sampling.max_tokens)?;
            let stream = generator.begin(&tokens, &checked).map_err(InputFailed)?;
            context.open_session(stream).map(Ok)
        })
    }

    fn next(&mut self, session: Resource<HostSession>) -> wasmtime::Result<Step> {
        self.host_call(|context| {
            let step = context.session(&session)?.next().map_err(InputFailed)?;
            Ok(match step {
                StreamStep::Piece { text, tokens, log_probabilities } => {
                    Step::Piece(Piece { text, tokens, log_probabilities })
                }
                StreamStep::Stopped => Step::Finished(FinishReason::Stop),
                StreamStep::ReachedLength => Step::Finished(FinishReason::Length),
            })
        })
    }

    fn timing(&mut self, session: Resource<HostSession>) -> wasmtime::Result<Option<Timing>> {
        self.host_call(|context| Ok(context.session(&session)?.timing().map(Timing::from)))
    }

    fn drop(&mut self, session: Resource<HostSession>) -> wasmtime::Result<()> {
        self.host_call(|context| context.close_session(session))
    }
}

impl From<GenerationTiming> for Timing {
    fn from(timing: GenerationTiming) -> Self {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let milliseconds = |duration: std::time::Duration| duration.as_secs_f64() * 1_000.0;
        Self {
            prompt_tokens: count(timing.prompt_tokens),
            tokens: count(timing.tokens),
            begun_milliseconds: milliseconds(timing.begun),
            first_token_milliseconds: milliseconds(timing.first_token),
            milliseconds: milliseconds(timing.total),
        }
    }
}

fn check_sampling(sampling: &GuestSampling) -> Result<Sampling, Error> {
    let refused = |field: &str, found: String, expected: &str| {
        Err(Error::InvalidArgument(format!("{field} {found}, expected {expected}")))
    };
    let &GuestSampling { max_tokens, temperature, top_p, top_k, seed, log_probabilities } = sampling;
    if max_tokens == 0 {
        return refused("max-tokens", max_tokens.to_string(), "at least 1");
    }
    if !(0.0..=2.0).contains(&temperature) {
        return refused("temperature", temperature.to_string(), "0 to 2");
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        return refused("top-p", top_p.to_string(), "a number above 0 and at most 1");
    }
    let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    let (max_tokens, top_k) = (count(max_tokens), count(top_k));
    Ok(Sampling { max_tokens, temperature, top_p, top_k, seed, log_probabilities })
}

fn check_prompt(measured: &MetricInputs, tokens: &[u32], context_length: usize) -> Result<(), Error> {
    if tokens.is_empty() || tokens.len() >= context_length {
        let (found, limit) = (tokens.len(), context_length.saturating_sub(1));
        return Err(Error::InvalidArgument(format!("a prompt of {found} tokens, expected 1 to {limit}")));
    }
    check_tokens(measured, tokens)
}
