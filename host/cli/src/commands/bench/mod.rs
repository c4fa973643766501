//! `espalier bench`: speed of the parts, each measured alone.
//!
//! Every bench warms up once, then repeats and reports the median, so that two programs can be compared in turn on a
//! noisy machine. Tokens are fixed where speed does not depend on which they are. [`serve`] alone drives a running server.

mod component;
mod decode;
mod footprint;
mod kernels;
mod measure;
mod policies;
mod prefill;
mod serve;
mod speculation;

use anyhow::Result;
use clap::Subcommand;

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// What a call of a component costs, how soon one is deployed, and an endpoint beside `wasmtime serve`.
    Component(component::Args),
    /// One token at a time, one or several sequences at once.
    Decode(decode::Args),
    /// A prompt in one go, with the logits of its last token.
    Prefill(prefill::Args),
    /// Decoding with tokens guessed ahead beside decoding without.
    Speculation(speculation::Args),
    /// Bytes on disk and in memory, seconds to load, speed of prefill and decode, in one run.
    Footprint(footprint::Args),
    /// Each kernel's share of the memory's bandwidth or the processor's peak, both measured in the same run.
    Kernels(kernels::Args),
    /// What the model loses at the same budget by each scoring policy, and how far scores agree with the losses without
    /// single units.
    Policies(policies::Args),
    /// Latencies and throughput of a running server, of any kind that has OpenAI's completions.
    Serve(serve::Args),
}

/// Runs a bench.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Component(args) => component::run(args),
        Bench::Decode(args) => decode::run(args),
        Bench::Prefill(args) => prefill::run(args),
        Bench::Speculation(args) => speculation::run(args),
        Bench::Footprint(args) => footprint::run(args),
        Bench::Kernels(args) => kernels::run(args),
        Bench::Policies(args) => policies::run(args),
        Bench::Serve(args) => serve::run(args),
    }
}
