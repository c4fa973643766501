//! `espalier:kernels/telemetry`.

use crate::bindings::interfaces::telemetry::{Host, Level};
use crate::context::Context;
use crate::identity::shortened;

impl Host for Context {
    fn log(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        self.host_call(|context| {
            let limit = context.limits.log_lines;
            let line = context.account.count_log_line();
            if line > limit.saturating_add(1) {
                return Ok(());
            }
            let Some(dropped) = context.allowance.admit_line() else { return Ok(()) };
            if dropped > 0 {
                tracing::warn!(component = %context.label, "{dropped} log lines were dropped: it logged too fast");
            }
            if line > limit {
                tracing::warn!(component = %context.label, "further log lines of this call are dropped after {limit}");
                return Ok(());
            }
            let component = &*context.label;
            let message = shortened(&message, context.limits.log_line_length);
            match level {
                Level::Debug => tracing::debug!(component, "{message}"),
                Level::Info => tracing::info!(component, "{message}"),
                Level::Warning => tracing::warn!(component, "{message}"),
                Level::Error => tracing::error!(component, "{message}"),
            }
            Ok(())
        })
    }

    fn count(&mut self, name: String, amount: u64) -> wasmtime::Result<()> {
        self.host_call(|context| {
            if let Some(metrics) = &context.metrics {
                metrics.count(&name, amount, context.limits.metrics);
            }
            Ok(())
        })
    }

    fn observe(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        self.host_call(|context| {
            if let Some(metrics) = &context.metrics {
                metrics.observe(&name, value, context.limits.metrics);
            }
            Ok(())
        })
    }
}
