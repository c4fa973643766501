//! `espalier generate`: one prompt, streamed to standard output.

use std::io::{Write, stdout};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use espalier_engine::{Engine, EngineConfig, Event, GenerateRequest, SamplingParams, Silent};
use espalier_model::{ChatMessage, Checkpoint, Tokenizer};

use crate::device::ModelArgs;

/// Options of `generate`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The text to continue; put into the model's chat template as a user message unless --raw is given.
    #[arg(long)]
    prompt: String,
    /// Most tokens to generate.
    #[arg(long, default_value_t = 256)]
    max_tokens: usize,
    /// 0 takes the most probable token every time.
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// Keep only the most probable tokens whose mass reaches this.
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Makes sampling repeatable.
    #[arg(long)]
    seed: Option<u64>,
    /// Continue the prompt as it stands, without a chat template.
    #[arg(long)]
    raw: bool,
    /// Print token ids as a JSON array instead of text.
    #[arg(long)]
    ids: bool,
}

/// Runs `generate`.
pub(crate) fn run(args: Args) -> Result<()> {
    let (checkpoint, model) = args.model.load()?;
    let tokenizer = Arc::new(checkpoint.tokenizer()?);
    let prompt = encode(&args, &checkpoint, &tokenizer)?;
    let sampling = SamplingParams::new(args.temperature, args.top_p, args.seed)?;
    let request = GenerateRequest::new(prompt, Some(args.max_tokens), sampling, Vec::new())?;
    let config =
        EngineConfig { max_sequences: 1, precision: args.model.precision(), ..EngineConfig::default() };
    let engine = Engine::start("generate", model, tokenizer, &config, Arc::new(Silent))?;
    let mut events = engine.submit(request)?;
    let mut out = stdout().lock();
    let mut ids = Vec::new();
    while let Some(event) = events.blocking_recv() {
        match event {
            Event::Text { token_ids, .. } if args.ids => ids.extend(token_ids),
            Event::Text { text, .. } => {
                out.write_all(text.as_bytes())?;
                out.flush()?;
            }
            Event::Finished { .. } => break,
            Event::Failed(message) => bail!(message),
        }
    }
    if args.ids {
        serde_json::to_writer(&mut out, &ids)?;
    }
    writeln!(out)?;
    Ok(())
}

fn encode(args: &Args, checkpoint: &Checkpoint, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    if args.raw {
        return Ok(tokenizer.encode(&args.prompt, true)?);
    }
    let template = checkpoint
        .compiled_chat_template()?
        .context("the model has no chat template, expected one or the option --raw")?;
    let message = ChatMessage { role: "user".to_owned(), content: args.prompt.clone() };
    let text = template.render(&[message], true)?;
    Ok(tokenizer.encode(&text, true)?)
}
