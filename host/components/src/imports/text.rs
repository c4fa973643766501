//! `espalier:kernels/text`.

use std::ops::Range;

use crate::bindings::interfaces::text::Host;
use crate::bindings::interfaces::types::Error;
use crate::context::Context;

impl Host for Context {
    fn token_count(&mut self) -> wasmtime::Result<u32> {
        self.host_call(|context| {
            Ok(u32::try_from(context.measured()?.scorer.tokens().len()).unwrap_or(u32::MAX))
        })
    }

    fn tokens(&mut self, first: u32, count: u32) -> wasmtime::Result<Result<Vec<u32>, Error>> {
        self.host_call(|context| {
            let scorer = &context.measured()?.scorer;
            let limit = context.limits.read_values;
            Ok(range(scorer.tokens().len(), first, count).and_then(|range| {
                if range.len() > limit {
                    return Err(Error::TooLarge(format!("{count} tokens at once, the limit is {limit}")));
                }
                Ok(scorer.tokens().get(range).unwrap_or_default().to_vec())
            }))
        })
    }

    fn byte_count(&mut self, first: u32, count: u32) -> wasmtime::Result<Result<u64, Error>> {
        self.host_call(|context| {
            let scorer = &context.measured()?.scorer;
            Ok(range(scorer.tokens().len(), first, count).map(|range| scorer.byte_count(range)))
        })
    }
}

/// The range in a text of so many tokens.
fn range(tokens: usize, first: u32, count: u32) -> Result<Range<usize>, Error> {
    let start = usize::try_from(first).unwrap_or(usize::MAX);
    let end = start.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
    if end > tokens {
        return Err(Error::InvalidArgument(format!("tokens {start}..{end} of a text of {tokens} tokens")));
    }
    Ok(start..end)
}
