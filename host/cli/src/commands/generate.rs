//! `espalier generate`: one prompt, answered on standard output; what a model thinks before goes to standard error.

use std::io::{Write, stderr, stdout};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use espalier_engine::{Engine, EngineConfig, EngineModels, Event, GenerateRequest, SamplingParams, Silent};
use espalier_model::chat::{AnswerEvent, AnswerParser, AnswerPart, ChatPrompt, Conversation, Turn};
use espalier_model::{Checkpoint, Tokenizer};

use crate::device::ModelArgs;

/// Options of `generate`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The text to continue; put into the model's chat format as a user message unless --raw is given.
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
    /// Continue the prompt as it stands, without a chat format.
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
    let ChatPrompt { tokens, mut parser, .. } = prompt(&args, &checkpoint, &tokenizer)?;
    let sampling = SamplingParams::new(args.temperature, args.top_p, args.seed)?;
    let mut request = GenerateRequest::new(tokens, Some(args.max_tokens), sampling, Vec::new())?;
    if !matches!(parser, AnswerParser::Plain) {
        request = request.with_every_token();
    }
    let config =
        EngineConfig { max_sequences: 1, precision: args.model.precision(), ..EngineConfig::default() };
    let models = EngineModels { model, tokenizer, draft: None };
    let engine = Engine::start("generate", models, &config, Arc::new(Silent))?;
    let mut events = engine.submit(request)?;
    let mut out = stdout().lock();
    let mut ids = Vec::new();
    while let Some(event) = events.blocking_recv() {
        match event {
            Event::Text { token_ids, .. } if args.ids => ids.extend(token_ids),
            Event::Text { text, token_ids, .. } => print(&mut out, parser.push(&text, &token_ids))?,
            Event::Prompt { .. } => {}
            Event::Finished { .. } if args.ids => break,
            Event::Finished { .. } => {
                print(&mut out, parser.finish())?;
                break;
            }
            Event::Failed(message) | Event::GrammarTooComplex(message) => bail!(message),
        }
    }
    if args.ids {
        serde_json::to_writer(&mut out, &ids)?;
    }
    writeln!(out)?;
    Ok(())
}

fn print(out: &mut impl Write, events: Vec<AnswerEvent>) -> Result<()> {
    for event in events {
        match event.part {
            AnswerPart::Content(text) | AnswerPart::Commentary(text) => {
                out.write_all(text.as_bytes())?;
                out.flush()?;
            }
            AnswerPart::Reasoning(text) | AnswerPart::ToolCallArguments(text) => {
                stderr().write_all(text.as_bytes())?;
            }
            AnswerPart::Framing
            | AnswerPart::ToolCallStart { .. }
            | AnswerPart::ToolCallEnd
            | AnswerPart::End(_) => {}
        }
    }
    Ok(())
}

fn prompt(args: &Args, checkpoint: &Checkpoint, tokenizer: &Tokenizer) -> Result<ChatPrompt> {
    if args.raw {
        let tokens = tokenizer.encode(&args.prompt, true)?;
        return Ok(ChatPrompt { tokens, parser: AnswerParser::Plain, opening: Vec::new() });
    }
    let format = checkpoint
        .chat_format(tokenizer)?
        .context("the model has no chat template, expected one or the option --raw")?;
    let conversation =
        Conversation { turns: vec![Turn::User(args.prompt.clone())], ..Conversation::default() };
    Ok(format.prompt(tokenizer, &conversation)?)
}
