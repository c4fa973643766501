//! `espalier:kernels/inference`.

use crate::bindings::interfaces::inference::Host;
use crate::bindings::interfaces::types::Error;
use crate::context::Context;
use crate::instance::InputFailed;

impl Host for Context {
    fn max_window(&mut self) -> wasmtime::Result<u32> {
        self.host_call(|context| {
            let window = context.scorer()?.max_window();
            Ok(u32::try_from(window).unwrap_or(u32::MAX))
        })
    }

    fn log_probabilities(
        &mut self,
        mut window: Vec<u32>,
        score_from: u32,
        replace_first_by_bos: bool,
    ) -> wasmtime::Result<Result<Vec<f32>, Error>> {
        self.host_call(|context| {
            let scorer = context.scorer()?;
            if window.is_empty() || window.len() > scorer.max_window() {
                let (found, limit) = (window.len(), scorer.max_window());
                return Ok(Err(Error::InvalidArgument(format!(
                    "a window of {found} tokens, expected 1 to {limit}"
                ))));
            }
            let from = usize::try_from(score_from).unwrap_or(usize::MAX);
            if from == 0 || from > window.len() {
                let limit = window.len();
                return Ok(Err(Error::InvalidArgument(format!(
                    "score-from {score_from}, expected 1 to {limit}"
                ))));
            }
            let vocabulary = context.facts.as_ref().map_or(u32::MAX, |facts| facts.vocab_size);
            if let Some(token) = window.iter().find(|token| **token >= vocabulary) {
                return Ok(Err(Error::InvalidArgument(format!(
                    "token {token} of a vocabulary of {vocabulary}"
                ))));
            }
            if let (true, Some(bos), Some(first)) =
                (replace_first_by_bos, scorer.beginning_of_sequence(), window.first_mut())
            {
                *first = bos;
            }
            let expected = window.len() - from;
            if expected == 0 {
                return Ok(Ok(Vec::new()));
            }
            let values = scorer.log_probabilities(&window, from).map_err(InputFailed)?;
            if values.len() != expected {
                let found = values.len();
                return Err(InputFailed(
                    format!("the model scored {found} tokens instead of {expected}").into(),
                )
                .into());
            }
            Ok(Ok(values))
        })
    }
}
