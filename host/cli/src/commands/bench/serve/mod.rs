//! `espalier bench serve`: load on a running host, over its OpenAI API, as its clients see it.
//!
//! It speaks nothing but `POST /v1/completions` with `stream`, so that it drives other servers too. Each of a number of
//! clients sends a request, reads its stream to the end and sends the next one, until all requests are answered (a
//! closed loop). One request that is not counted warms the host up.

mod client;
mod latency;
mod prompt;

use std::io::{Write, stdout};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use client::{Answered, Client};
use latency::Latency;
use prompt::Prompts;

/// Options of `bench serve`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The server, without the path of an endpoint.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    url: String,
    /// The model to ask for, as the server names it.
    #[arg(long, value_name = "NAME")]
    model: String,
    /// Clients that send at the same time.
    #[arg(long, value_name = "N", default_value_t = 1)]
    streams: usize,
    /// Requests of all clients together.
    #[arg(long, value_name = "N", default_value_t = 16)]
    requests: usize,
    /// Words of a prompt, each a token in the common vocabularies. The result has the server's own count.
    #[arg(long, value_name = "N", default_value_t = 128)]
    prompt_tokens: usize,
    /// Of these, words at the start that all prompts have in common.
    #[arg(long, value_name = "N", default_value_t = 0)]
    shared_tokens: usize,
    /// Tokens of a completion.
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_tokens: usize,
    /// Go on after an end token, so that every completion has its full length. Not a field of OpenAI's own API.
    #[arg(long)]
    ignore_eos: bool,
    /// Chooses the prompts: another seed, other prompts, so that nothing of an earlier run is cached.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Serialize)]
struct Load {
    bench: &'static str,
    streams: usize,
    requests: usize,
    /// As the server counts them.
    prompt_tokens: u64,
    completion_tokens: u64,
    seconds: f64,
    /// Completion tokens of all clients over the time from the first request to the last answer.
    tokens_per_second: f64,
    /// From sending a request to the first text.
    time_to_first_token: Latency,
    /// Between two texts of a stream.
    inter_token_latency: Latency,
}

/// Runs `bench serve`.
pub(crate) fn run(args: &Args) -> Result<()> {
    for (option, value) in
        [("--streams", args.streams), ("--requests", args.requests), ("--max-tokens", args.max_tokens)]
    {
        ensure!(value > 0, "{option}: found 0, expected at least 1");
    }
    let prompts = Prompts::new(args.prompt_tokens, args.shared_tokens, args.seed)?;
    let client = Client::new(&args.url, &args.model, args.max_tokens, args.ignore_eos);
    client.complete(&prompts.text(args.requests)).context("the request that warms up")?;
    let begin = Instant::now();
    let answers = answers(args, &client, &prompts)?;
    print(&load(&answers, begin.elapsed().as_secs_f64(), args.streams), args.json)
        .context("the result cannot be printed")
}

/// All requests' answers. The first failure ends every client after the answer that it reads.
fn answers(args: &Args, client: &Client, prompts: &Prompts) -> Result<Vec<Answered>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut answers = Vec::new();
        loop {
            let request = next.fetch_add(1, Ordering::Relaxed);
            if request >= args.requests {
                return Ok(answers);
            }
            match client.complete(&prompts.text(request)) {
                Ok(answer) => answers.push(answer),
                Err(error) => {
                    next.store(args.requests, Ordering::Relaxed);
                    return Err(error.context(format!("request {} of {}", request + 1, args.requests)));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..args.streams.min(args.requests)).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::with_capacity(args.requests);
        for client in clients {
            match client.join() {
                Ok(answers) => all.extend(answers?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(all)
    })
}

fn load(answers: &[Answered], seconds: f64, streams: usize) -> Load {
    let completion_tokens = answers.iter().map(|answer| answer.completion_tokens).sum();
    Load {
        bench: "serve",
        streams,
        requests: answers.len(),
        prompt_tokens: answers.iter().map(|answer| answer.prompt_tokens).sum(),
        completion_tokens,
        seconds,
        tokens_per_second: completion_tokens as f64 / seconds,
        time_to_first_token: Latency::of(answers.iter().map(|answer| answer.first)),
        inter_token_latency: Latency::of(answers.iter().flat_map(|answer| answer.gaps.iter().copied())),
    }
}

fn print(load: &Load, json: bool) -> Result<()> {
    let mut out = stdout().lock();
    if json {
        serde_json::to_writer(&mut out, load)?;
        return Ok(writeln!(out)?);
    }
    let Load { streams, requests, prompt_tokens, completion_tokens, seconds, .. } = load;
    writeln!(out, "load           {requests} requests of {streams} clients in {seconds:.2} s")?;
    writeln!(out, "tokens         {prompt_tokens} of prompts, {completion_tokens} of completions")?;
    writeln!(out, "throughput     {:.1} completion tokens/s", load.tokens_per_second)?;
    for (name, latency) in
        [("first token", &load.time_to_first_token), ("between tokens", &load.inter_token_latency)]
    {
        let Latency { p50, p99, max, .. } = latency;
        writeln!(out, "{name:<14} p50 {p50:.1} ms, p99 {p99:.1} ms, at most {max:.1} ms")?;
    }
    Ok(())
}
