//! Speculative decoding beside plain decoding: the same greedy request in turn, through the engine.
//!
//! Unlike the other benches this one depends on the text: a guess helps only where it is right. The prompt that is there
//! by default is a list that repeats itself, as code, tables and quotations do.

use std::fs;
use std::io::{Write, stdout};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use espalier_engine::{
    Engine, EngineConfig, EngineModels, EngineObserver, Event, GenerateRequest, RequestRecord,
    SamplingParams, StepRecord,
};
use espalier_model::{Checkpoint, Model, Tokenizer};
use serde_json::json;

use super::measure::median;
use crate::device::ModelArgs;

const PROMPT: &str = "\
| tree  | planted | height | fruit |
| ----- | ------- | ------ | ----- |
| apple | 2019    | 2.4 m  | red   |
| pear  | 2019    | 2.4 m  | green |
| plum  | 2020    | 2.1 m  | blue  |
| apple | 2020    | 2.1 m  | red   |
| pear  | 2020    | 2.1 m  | green |
| plum  | 2021    | 1.8 m  | blue  |
| apple | 2021    | 1.8 m  | red   |
| pear  | 2021    | 1.8 m  | green |
";

/// Options of `bench speculation`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// A smaller model with the same vocabulary that guesses; without one the text itself does.
    #[arg(long, value_name = "PATH")]
    draft: Option<PathBuf>,
    /// Tokens guessed in a step at the most.
    #[arg(long, default_value_t = 8)]
    speculative_tokens: usize,
    /// A file with the text to continue [default: a table that repeats itself].
    #[arg(long, value_name = "FILE")]
    prompt: Option<PathBuf>,
    /// Tokens of the continuation.
    #[arg(long, default_value_t = 128)]
    tokens: usize,
    /// Counted runs of each, after one that warms up.
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Counts guesses.
#[derive(Default)]
struct Guesses {
    checked: AtomicUsize,
    right: AtomicUsize,
}

impl EngineObserver for Guesses {
    fn first_token(&self, _: Duration) {}
    fn next_token(&self, _: Duration) {}
    fn request(&self, _: &RequestRecord) {}

    fn step(&self, record: &StepRecord) {
        self.checked.fetch_add(record.guessed_tokens, Ordering::Relaxed);
        self.right.fetch_add(record.right_tokens, Ordering::Relaxed);
    }
}

/// Runs `bench speculation`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let (checkpoint, model) = args.model.load()?;
    let tokenizer = Arc::new(checkpoint.tokenizer()?);
    let text = match &args.prompt {
        Some(path) => fs::read_to_string(path).with_context(|| format!("--prompt {}", path.display()))?,
        None => PROMPT.to_owned(),
    };
    let prompt = tokenizer.encode(&text, true)?;
    let guesses = Arc::<Guesses>::default();
    let [plain, guessing] = [0, args.speculative_tokens].map(|speculative_tokens| {
        let draft = if speculative_tokens > 0 { load_draft(args, &model)? } else { None };
        start(args, speculative_tokens, draft, &model, &tokenizer, &guesses)
    });
    let (plain, guessing) = (plain?, guessing?);
    let (mut times, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
    for repetition in 0..=args.repetitions.max(1) {
        let (plain_tokens, plain_time) = decode(&plain, &prompt, args.tokens)?;
        let (guessed_tokens, guessed_time) = decode(&guessing, &prompt, args.tokens)?;
        ensure!(plain_tokens == guessed_tokens, "the answer with guesses is another one than without");
        if repetition > 0 {
            times[0].push(plain_time);
            times[1].push(guessed_time);
            ratios.push(plain_time.as_secs_f64() / guessed_time.as_secs_f64());
        }
    }
    print(args, &guesses, &times, ratios)
}

fn load_draft(args: &Args, model: &Model) -> Result<Option<Arc<Model>>> {
    let Some(path) = &args.draft else { return Ok(None) };
    Ok(Some(Arc::new(Model::load(&Checkpoint::open(path)?, model.cpu().clone())?)))
}

fn start(
    args: &Args,
    speculative_tokens: usize,
    draft: Option<Arc<Model>>,
    model: &Arc<Model>,
    tokenizer: &Arc<Tokenizer>,
    guesses: &Arc<Guesses>,
) -> Result<Engine> {
    let config = EngineConfig {
        max_sequences: 1,
        kv_bytes: 1 << 28,
        speculative_tokens,
        precision: args.model.precision(),
        ..EngineConfig::default()
    };
    let models = EngineModels { model: Arc::clone(model), tokenizer: Arc::clone(tokenizer), draft };
    Ok(Engine::start("bench", models, &config, Arc::<Guesses>::clone(guesses))?)
}

/// The tokens of the continuation, and the time from the first of them to the last.
fn decode(engine: &Engine, prompt: &[u32], tokens: usize) -> Result<(Vec<u32>, Duration)> {
    let request = GenerateRequest::new(prompt.to_vec(), Some(tokens), SamplingParams::greedy(), Vec::new())?;
    let mut stream = engine.submit(request.ignoring_end().with_every_token())?;
    let (mut found, mut began) = (Vec::new(), None);
    while let Some(event) = stream.blocking_recv() {
        match event {
            Event::Text { token_ids, .. } => {
                began.get_or_insert_with(Instant::now);
                found.extend(token_ids);
            }
            Event::Prompt { .. } => {}
            Event::Finished { .. } => {
                return Ok((found, began.map_or(Duration::ZERO, |began| began.elapsed())));
            }
            Event::Failed(message) | Event::GrammarTooComplex(message) => bail!(message),
        }
    }
    bail!("the engine ended before the answer")
}

fn print(args: &Args, guesses: &Guesses, times: &[Vec<Duration>; 2], mut ratios: Vec<f64>) -> Result<()> {
    let [plain, guessing] =
        times.each_ref().map(|times| (args.tokens - 1) as f64 / median(times).as_secs_f64());
    let [checked, right] = [&guesses.checked, &guesses.right].map(|count| count.load(Ordering::Relaxed));
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios.get(ratios.len() / 2).copied().unwrap_or_default();
    let mut out = stdout().lock();
    if args.json {
        let found = json!({
            "bench": "speculation", "tokens": args.tokens, "draft": args.draft, "plain_tokens_per_second": plain,
            "tokens_per_second": guessing, "ratios": ratios, "guessed_tokens": checked, "right_tokens": right,
        });
        writeln!(out, "{found}")?;
    } else {
        writeln!(
            out,
            "speculation: {plain:.1} tokens/s without guesses, {guessing:.1} with, ratio {ratio:.2} (medians of {} \
             runs in turn, the same {} tokens; {right} of {checked} guesses were right)",
            ratios.len(),
            args.tokens,
        )?;
    }
    Ok(())
}
