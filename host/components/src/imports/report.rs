//! `espalier:kernels/report`.

use crate::bindings::interfaces::report::Host;
use crate::context::Context;
use crate::error::Limit;
use crate::identity::shortened;

impl Host for Context {
    fn note(&mut self, text: String) -> wasmtime::Result<()> {
        self.host_call(|context| {
            if context.notes.len() >= context.limits.notes {
                return Err(Limit::Notes(context.limits.notes).into());
            }
            // A note is one line of the report.
            let line = text.replace(char::is_control, " ");
            context.notes.push(shortened(&line, context.limits.log_line_length));
            Ok(())
        })
    }
}
