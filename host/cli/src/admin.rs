//! A client of a running host's admin API, and the tables that its answers are shown as.

use std::io::{BufRead as _, BufReader, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use serde_json::Value;

/// Loading a large checkpoint is one request.
const TIMEOUT: Duration = Duration::from_secs(3600);
/// Largest answer that is read.
const ANSWER_LIMIT: u64 = 64 << 20;

/// Which host, and how its answers are shown.
#[derive(Args, Clone, Debug)]
pub(crate) struct AdminArgs {
    /// The admin API of the running host.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8001", global = true)]
    admin: String,
    /// Its token, if it asks for one. Also read from ESPALIER_ADMIN_TOKEN.
    #[arg(long, value_name = "TOKEN", global = true)]
    admin_token: Option<String>,
    /// Print the answer as JSON.
    #[arg(long, global = true)]
    json: bool,
}

/// The client.
pub(crate) struct Admin {
    base: String,
    token: Option<String>,
    json: bool,
    agent: ureq::Agent,
}

impl AdminArgs {
    pub(crate) fn client(&self) -> Admin {
        let base = self.admin.trim_end_matches('/');
        let base = if base.contains("://") { base.to_owned() } else { format!("http://{base}") };
        let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false);
        Admin {
            base,
            token: self.admin_token.clone().or_else(|| std::env::var("ESPALIER_ADMIN_TOKEN").ok()),
            json: self.json,
            agent: config.build().into(),
        }
    }
}

impl Admin {
    /// GET `path` below `/admin/v1`.
    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        let request = self.authorized(self.agent.get(self.url(path)));
        self.answer(request.call())
    }

    /// GET of a file of at most `limit` bytes.
    pub(crate) fn download(&self, path: &str, limit: usize) -> Result<Vec<u8>> {
        let request = self.authorized(self.agent.get(self.url(path)));
        let mut response =
            request.call().with_context(|| format!("the host at {} does not answer", self.base))?;
        if !response.status().is_success() {
            return self.answer(Ok(response)).map(|_| Vec::new());
        }
        let body = response.body_mut().with_config().limit(u64::try_from(limit)?).read_to_vec();
        body.with_context(|| format!("the file from {} broke off", self.base))
    }

    /// GET of server-sent events: `each` gets the name and the data of every one. Returns when the stream ends.
    pub(crate) fn events(&self, path: &str, each: &mut dyn FnMut(&str, &Value) -> Result<()>) -> Result<()> {
        let request = self.authorized(self.agent.get(self.url(path)));
        // It lasts as long as what it tells of.
        let request = request.config().timeout_global(None).build();
        let response =
            request.call().with_context(|| format!("the host at {} does not answer", self.base))?;
        if !response.status().is_success() {
            return self.answer(Ok(response)).map(|_| ());
        }
        let mut name = String::new();
        for line in BufReader::new(response.into_body().into_reader()).lines() {
            let line = line.with_context(|| format!("the events from {} broke off", self.base))?;
            if let Some(event) = line.strip_prefix("event: ") {
                event.clone_into(&mut name);
            } else if let Some(data) = line.strip_prefix("data: ") {
                each(&name, &serde_json::from_str(data).unwrap_or(Value::Null))?;
            }
        }
        Ok(())
    }

    /// The address of a path that an answer names.
    pub(crate) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// DELETE.
    pub(crate) fn delete(&self, path: &str) -> Result<Value> {
        let request = self.authorized(self.agent.delete(self.url(path)));
        self.answer(request.call())
    }

    /// POST of JSON.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let request = self.authorized(self.agent.post(self.url(path)));
        self.answer(request.send_json(body))
    }

    /// POST of a component.
    pub(crate) fn upload(&self, path: &str, component: &[u8]) -> Result<Value> {
        let request =
            self.authorized(self.agent.post(self.url(path))).header("content-type", "application/wasm");
        self.answer(request.send(component))
    }

    /// Prints an answer: as JSON if that was asked for, else as `table` makes it.
    pub(crate) fn show(&self, answer: &Value, table: impl FnOnce(&Value) -> String) -> Result<()> {
        let text = if self.json { format!("{answer:#}\n") } else { table(answer) };
        std::io::stdout().write_all(text.as_bytes()).context("standard output cannot be written")
    }

    fn url(&self, path: &str) -> String {
        format!("{}/admin/v1/{path}", self.base)
    }

    fn authorized<Any>(&self, request: ureq::RequestBuilder<Any>) -> ureq::RequestBuilder<Any> {
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn answer(&self, result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value> {
        let mut response = result.with_context(|| format!("the host at {} does not answer", self.base))?;
        let status = response.status();
        let text = response
            .body_mut()
            .with_config()
            .limit(ANSWER_LIMIT)
            .read_to_string()
            .with_context(|| format!("the answer of {} broke off", self.base))?;
        let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(body);
        }
        match body["error"]["message"].as_str() {
            Some(message) => Err(anyhow!("{message}")),
            None => Err(anyhow!("{} answered {status}, expected an Espalier admin API", self.base)),
        }
    }
}

/// Percent-encodes one segment of a path (RFC 3986, everything but unreserved characters).
pub(crate) fn segment(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// Columns as wide as their widest cell. Columns whose title ends in a space are flushed right.
pub(crate) fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = titles
        .iter()
        .enumerate()
        .map(|(column, title)| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([title.trim_end().chars().count()]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).zip(titles).map(|((cell, width), title)| {
            if title.ends_with(' ') { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = line(titles.iter().map(|title| title.trim_end()).collect());
    for row in rows {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}

/// A string or number of an answer as a cell.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let rows = vec![vec!["a".into(), "7".into()], vec!["long".into(), "12".into()]];
        assert_eq!(table(&["NAME", "SIZE "], &rows), "NAME  SIZE\na        7\nlong    12\n");
    }

    #[test]
    fn segments_are_encoded() {
        assert_eq!(segment("openai/gpt@1"), "openai%2Fgpt%401");
    }
}
