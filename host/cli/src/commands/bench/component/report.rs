//! What `bench component` prints: each figure beside the limit that the project sets itself.

use std::io::{Write as _, stdout};

use anyhow::Result;
use serde::Serialize;

use super::deploying::Deployment;
use super::peer::{Http, Served};
use super::requests::InRequest;
use crate::commands::bench::measure::Percentiles;

/// Bytes of the component whose deployment is limited.
const LIMITED_BYTES: f64 = 200_000.0;

/// Everything that was found. Times are in microseconds.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) router: String,
    pub(super) endpoint: String,
    pub(super) deployed: String,
    pub(super) deployed_bytes: usize,
    pub(super) in_request: InRequest,
    pub(super) sandboxed: Percentiles,
    pub(super) bare: Percentiles,
    pub(super) instantiate: Percentiles,
    pub(super) endpoint_instance: Percentiles,
    pub(super) deployment: Deployment,
    pub(super) http: Http,
}

impl Report {
    /// Prints it as a table, or as JSON.
    pub(super) fn print(&self, json: bool) -> Result<()> {
        let mut out = stdout().lock();
        if json {
            serde_json::to_writer(&mut out, self)?;
            return Ok(writeln!(out)?);
        }
        writeln!(out, "| what | p50 | p99 | limit (p50) | holds |\n| --- | --- | --- | --- | --- |")?;
        for row in self.rows() {
            writeln!(out, "{row}")?;
        }
        writeln!(out, "\n{}", self.http_words())?;
        Ok(())
    }

    fn rows(&self) -> Vec<String> {
        let Self { router, in_request, deployed, deployed_bytes, .. } = self;
        let kilobytes = *deployed_bytes as f64 / 1e3;
        let share = LIMITED_BYTES / *deployed_bytes as f64;
        let compiled = self.deployment.compiled.p50_microseconds;
        vec![
            row("request of one token, variant named", &in_request.pinned, None),
            row(&format!("the same, `{router}` asked"), &in_request.routed, None),
            line(
                "added by the router",
                &microseconds(in_request.added_microseconds),
                "",
                Some((in_request.added_microseconds, 50.0)),
            ),
            row(&format!("`{router}` called in the sandbox"), &self.sandboxed, None),
            row(&format!("`{router}` called with bare wasmtime"), &self.bare, None),
            row(&format!("instance of `{router}`, warm"), &self.instantiate, Some(30.0)),
            row(&format!("instance of `{}`, warm", self.endpoint), &self.endpoint_instance, Some(30.0)),
            row(&format!("`{deployed}` ({kilobytes:.0} KB) deployed"), &self.deployment.compiled, None),
            line(
                "the same, in proportion to 200 KB",
                &microseconds(compiled * share),
                "",
                Some((compiled * share, 1e6)),
            ),
            row("deployed again, code cached", &self.deployment.cached, Some(20e3)),
        ]
    }

    fn http_words(&self) -> String {
        let Http { espalier, wasmtime_serve, ratio } = &self.http;
        let words = |name: &str, served: &Served| {
            format!(
                "| {name} | {:.0} | {} | {} | {} |\n",
                served.requests_per_second,
                microseconds(served.latency.p50_microseconds),
                microseconds(served.latency.p99_microseconds),
                served.rates.iter().map(|rate| format!("{rate:.0}")).collect::<Vec<_>>().join(", "),
            )
        };
        let mut text = format!(
            "| `{}` served by | requests/s | p50 | p99 | rounds |\n| --- | --- | --- | --- | --- |\n",
            self.endpoint
        );
        text += &words("espalier", espalier);
        match (wasmtime_serve, ratio) {
            (Some(served), Some(ratio)) => {
                text += &words("wasmtime serve", served);
                let holds = if *ratio >= 1.0 { "holds" } else { "does not hold" };
                text += &format!(
                    "\n{ratio:.2} × `wasmtime serve` in the median round; the limit of 1.0 × {holds}."
                );
            }
            _ => {
                text += "\nNo `wasmtime` was named (--wasmtime FILE), so there is no comparison with `wasmtime serve`."
            }
        }
        text
    }
}

fn row(what: &str, times: &Percentiles, limit: Option<f64>) -> String {
    let limit = limit.map(|limit| (times.p50_microseconds, limit));
    line(what, &microseconds(times.p50_microseconds), &microseconds(times.p99_microseconds), limit)
}

fn line(what: &str, p50: &str, p99: &str, limit: Option<(f64, f64)>) -> String {
    let (limit, holds) = match limit {
        Some((found, limit)) => (microseconds(limit), if found <= limit { "yes" } else { "no" }),
        None => (String::new(), ""),
    };
    format!("| {what} | {p50} | {p99} | {limit} | {holds} |")
}

fn microseconds(time: f64) -> String {
    match time.abs() {
        below if below < 100.0 => format!("{time:.1} µs"),
        below if below < 10_000.0 => format!("{time:.0} µs"),
        _ => format!("{:.1} ms", time / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_held_or_not() {
        assert_eq!(line("x", "1", "2", Some((50.0, 50.0))), "| x | 1 | 2 | 50.0 µs | yes |");
        assert_eq!(line("x", "1", "2", Some((50.1, 50.0))), "| x | 1 | 2 | 50.0 µs | no |");
        assert_eq!(line("x", "1", "2", None), "| x | 1 | 2 |  |  |");
        assert_eq!(microseconds(20_000.0), "20.0 ms");
    }
}
