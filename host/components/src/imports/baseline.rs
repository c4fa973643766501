//! `espalier:kernels/baseline`.

use super::inference::Window;
use crate::TokenComparison;
use crate::bindings::interfaces::baseline::{Comparison, Host};
use crate::bindings::interfaces::types::Error;
use crate::context::Context;

impl Host for Context {
    fn available(&mut self) -> wasmtime::Result<bool> {
        self.host_call(|context| Ok(context.measured()?.baseline.is_some()))
    }

    fn compare(
        &mut self,
        window: Vec<u32>,
        score_from: u32,
        replace_first_by_bos: bool,
    ) -> wasmtime::Result<Result<Vec<Comparison>, Error>> {
        self.host_call(|context| {
            let measured = context.measured()?;
            let Some(baseline) = &measured.baseline else {
                return Ok(Err(Error::Unavailable("there is no baseline to compare with".to_owned())));
            };
            let window = match Window::parse(measured, window, score_from, replace_first_by_bos) {
                Ok(window) => window,
                Err(error) => return Ok(Err(error)),
            };
            let compared = window.score(|tokens, from| baseline.compare(tokens, from))?;
            Ok(Ok(compared.into_iter().map(Comparison::from).collect()))
        })
    }
}

impl From<TokenComparison> for Comparison {
    fn from(token: TokenComparison) -> Self {
        let TokenComparison { divergence, same_top, baseline_log_probability, log_probability } = token;
        Self { divergence, same_top, baseline_log_probability, log_probability }
    }
}
