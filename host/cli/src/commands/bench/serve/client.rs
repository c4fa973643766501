//! One streamed completion, timed as its reader sees it.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

/// The longest that an answer may take: a slow server under load is measured, a dead one is not waited for.
const TIMEOUT: Duration = Duration::from_secs(600);
/// What of a refusal's body is read.
const REFUSAL_LIMIT: u64 = 1 << 16;

/// Sends requests that differ only in their prompt. Connections are kept and used again.
pub(super) struct Client {
    agent: ureq::Agent,
    endpoint: String,
    body: Value,
}

/// An answer that came to its end.
pub(super) struct Answered {
    /// From sending the request to its first text.
    pub(super) first: Duration,
    /// Between one text and the next.
    pub(super) gaps: Vec<Duration>,
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
}

/// A frame of the stream, as far as it is of interest.
#[derive(Deserialize)]
struct Frame {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    text: String,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
}

impl Client {
    pub(super) fn new(url: &str, model: &str, max_tokens: usize, ignore_eos: bool) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .max_idle_connections(usize::MAX)
            .max_idle_connections_per_host(usize::MAX);
        let mut body = json!({
            "model": model,
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": true,
            "stream_options": { "include_usage": true },
        });
        if ignore_eos {
            body["ignore_eos"] = true.into();
        }
        let endpoint = format!("{}/v1/completions", url.trim_end_matches('/'));
        Self { agent: config.build().into(), endpoint, body }
    }

    /// Sends a prompt and reads the answer to its end.
    ///
    /// # Errors
    /// A server that doesn't answer, refuses, reports an error in the stream, or ends it early or without its usage.
    pub(super) fn complete(&self, prompt: &str) -> Result<Answered> {
        let mut body = self.body.clone();
        body["prompt"] = prompt.into();
        let begin = Instant::now();
        let sent = self.agent.post(&self.endpoint).send_json(&body);
        let mut response = sent.with_context(|| format!("{} does not answer", self.endpoint))?;
        if !response.status().is_success() {
            let text = response.body_mut().with_config().limit(REFUSAL_LIMIT).read_to_string();
            bail!("{} answered {}: {}", self.endpoint, response.status(), message(&text.unwrap_or_default()));
        }
        read(BufReader::new(response.body_mut().as_reader()), begin)
            .with_context(|| format!("the stream of {}", self.endpoint))
    }
}

/// Reads server-sent events until `[DONE]`.
fn read(stream: impl BufRead, begin: Instant) -> Result<Answered> {
    let mut texts = Vec::new();
    let mut usage = None;
    for line in stream.lines() {
        let line = line.context("it broke off")?;
        let Some(data) = line.strip_prefix("data:").map(str::trim_start) else { continue };
        if data == "[DONE]" {
            return answered(&texts, usage, begin);
        }
        let frame: Frame =
            serde_json::from_str(data).with_context(|| format!("found {data}, expected a frame"))?;
        if let Some(error) = frame.error {
            bail!("{}", message(&json!({ "error": error }).to_string()));
        }
        if frame.choices.iter().any(|choice| !choice.text.is_empty()) {
            texts.push(Instant::now());
        }
        usage = frame.usage.or(usage);
    }
    Err(anyhow!("it ended before [DONE]"))
}

fn answered(texts: &[Instant], usage: Option<Usage>, begin: Instant) -> Result<Answered> {
    let first = texts.first().context("found no text, expected at least one")?;
    let Usage { prompt_tokens, completion_tokens } =
        usage.context("found no usage, expected it at the end")?;
    ensure!(completion_tokens > 0, "usage.completion_tokens: found 0, expected at least 1");
    let gaps = texts.iter().zip(&texts[1..]).map(|(one, next)| next.duration_since(*one)).collect();
    Ok(Answered { first: first.duration_since(begin), gaps, prompt_tokens, completion_tokens })
}

/// What an error in OpenAI's form says, or the text itself.
fn message(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    value["error"]["message"].as_str().unwrap_or(text.trim()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(text: &str) -> Result<Answered> {
        read(text.as_bytes(), Instant::now())
    }

    #[test]
    fn frames_with_text_are_timed_and_the_usage_is_the_servers() {
        let answer = stream(concat!(
            ": keep-alive\n\n",
            "data: {\"choices\":[{\"text\":\"a\"}]}\n\n",
            "data: {\"choices\":[{\"text\":\"\"}],\"usage\":null}\n\n",
            "data: {\"choices\":[{\"text\":\"b\"}]}\n\n",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":3,\"total_tokens\":8}}\n\n",
            "data: [DONE]\n\n",
        ))
        .unwrap();
        assert_eq!((answer.gaps.len(), answer.prompt_tokens, answer.completion_tokens), (1, 5, 3));
    }

    #[test]
    fn streams_without_an_end_a_text_or_a_usage_are_errors() {
        let text = "data: {\"choices\":[{\"text\":\"a\"}]}\n\n";
        let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":3}}\n\n";
        let done = "data: [DONE]\n\n";
        assert!(stream(&[text, usage, done].concat()).is_ok());
        for (wrong, expected) in [
            ([text, usage, ""], "before [DONE]"),
            ([text, "", done], "no usage"),
            (["", usage, done], "no text"),
            (["data: {\"error\":{\"message\":\"it broke\"}}\n\n", text, done], "it broke"),
            (["data: x\n\n", text, done], "found x"),
        ] {
            let error = stream(&wrong.concat()).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
