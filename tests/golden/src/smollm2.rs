//! Where SmolLM2 is, and its golden files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::data;

/// Path of the GGUF file in the cache folder that `cargo xtask setup` fills.
///
/// # Errors
/// The file is not there; the message says what to run.
pub fn model_path() -> Result<PathBuf> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    // A relative cache folder is relative to the repository, as for xtask, not to this crate where cargo runs its tests.
    let cache = root.join(std::env::var_os("ESPALIER_CACHE").unwrap_or_else(|| ".espalier".into()));
    let path = cache.join("models/SmolLM2-135M-Instruct.Q4_1.gguf");
    ensure!(path.is_file(), "there is no file {}: run `cargo xtask setup` first", path.display());
    Ok(path)
}

/// The committed text, an excerpt of the State of the Union test split.
///
/// # Errors
/// The file cannot be read.
pub fn text() -> Result<String> {
    let path = data().join("sotu-test.txt");
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// `smollm2-tokens.json`
#[derive(Deserialize)]
pub struct TextTokens {
    /// Ids of the whole text.
    pub ids: Vec<u32>,
}

/// `smollm2-greedy.json`
#[derive(Deserialize)]
pub struct Greedy {
    /// The five prompts.
    pub prompts: Vec<GreedyCase>,
}

/// One prompt and the reference's continuation.
#[derive(Deserialize)]
pub struct GreedyCase {
    /// Name for messages.
    pub name: String,
    /// The conversation, where the prompt is one; else `rendered` is the prompt as given.
    #[serde(default)]
    pub messages: Vec<Message>,
    /// What the chat template makes of `messages`.
    pub rendered: String,
    /// Ids of `rendered`.
    pub prompt_ids: Vec<u32>,
    /// The reference's greedy ids.
    pub ids: Vec<u32>,
    /// Largest logit less the second at each choice.
    pub margins: Vec<f32>,
    /// The ids as text, special tokens written out.
    pub completion: String,
}

/// One message of a conversation.
#[derive(Deserialize)]
pub struct Message {
    /// system, user or assistant
    pub role: String,
    /// The text.
    pub content: String,
}

/// Reads one of the JSON files above.
///
/// # Errors
/// The file cannot be read or has another form, by name.
pub fn read_json<T: DeserializeOwned>(name: &str) -> Result<T> {
    let path = data().join(name);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} has another form than this crate expects", path.display()))
}
