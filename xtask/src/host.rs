//! A running `espalier serve` on loopback, and the requests that the demo makes to it.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::child::Server;
use crate::process;
use crate::progress;
use crate::workspace::Workspace;

/// Ports of the host when they are free.
const PUBLIC_PORT: u16 = 8000;
const ADMIN_PORT: u16 = 8001;

/// How long the host may take to load its models.
const LOADING: Duration = Duration::from_secs(120);

/// The longest answer that is waited for.
const ANSWER: Duration = Duration::from_secs(300);

/// A host that this program started; it ends with this value.
pub(crate) struct Host {
    server: Server,
    public: String,
    admin: String,
    log: PathBuf,
    program: PathBuf,
    agent: ureq::Agent,
}

impl Host {
    /// Starts the built host with one model (`NAME=PATH`) and a state directory and log file of its own below `folder`,
    /// and waits until it is ready.
    pub(crate) fn start(workspace: &Workspace, model: &str, folder: &Path) -> Result<Self> {
        let log = folder.join("host.log");
        let output = File::create(&log).with_context(|| format!("can't write {}", log.display()))?;
        let errors = output.try_clone().with_context(|| format!("can't write {}", log.display()))?;
        let (public, admin) = (free_address(PUBLIC_PORT)?, free_address(ADMIN_PORT)?);
        let mut command = Command::new(workspace.espalier());
        command.args([
            "serve",
            "--model",
            model,
            "--listen",
            &public,
            "--admin-listen",
            &admin,
            "--state-dir",
        ]);
        command.arg(folder.join("state")).stdin(Stdio::null()).stdout(output).stderr(errors);
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER))
            .http_status_as_error(false)
            .build()
            .into();
        let host = Self {
            server: Server::start("start the host", &mut command)?,
            public: format!("http://{public}"),
            admin: format!("http://{admin}"),
            log,
            program: workspace.espalier(),
            agent,
        };
        host.wait_until_ready()?;
        Ok(host)
    }

    /// Where clients and browsers connect.
    pub(crate) fn public(&self) -> &str {
        &self.public
    }

    /// Where the admin API answers.
    pub(crate) fn admin(&self) -> &str {
        &self.admin
    }

    /// Waits until the host ends by itself.
    pub(crate) fn wait(&self) {
        self.server.wait();
    }

    /// Runs `espalier ARGUMENTS… --admin URL` against this host and returns what it printed.
    pub(crate) fn command(&self, purpose: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(arguments).args(["--admin", &self.admin]);
        process::output(purpose, &mut command)
    }

    /// A GET that must succeed with JSON; `url` is whole.
    pub(crate) fn get(&self, url: &str) -> Result<Value> {
        let response = self.agent.get(url).call().with_context(|| format!("GET {url} got no answer"))?;
        json_of_success("GET", url, response)
    }

    /// A POST that must succeed with JSON.
    pub(crate) fn post(&self, url: &str, body: &Value) -> Result<Value> {
        let response =
            self.agent.post(url).send_json(body).with_context(|| format!("POST {url} got no answer"))?;
        json_of_success("POST", url, response)
    }

    fn wait_until_ready(&self) -> Result<()> {
        let bar = progress::waiting("the host loads its model");
        let began = Instant::now();
        let url = format!("{}/ready", self.public);
        loop {
            if self.agent.get(&url).call().is_ok_and(|response| response.status().is_success()) {
                bar.finish_and_clear();
                return Ok(());
            }
            if !self.server.is_running() {
                bail!("the host ended while it was starting; its last lines are\n{}", self.last_lines());
            }
            if began.elapsed() > LOADING {
                bail!(
                    "the host was not ready in {} s; its last lines are\n{}",
                    LOADING.as_secs(),
                    self.last_lines()
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn last_lines(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }
}

fn json_of_success(method: &str, url: &str, mut response: ureq::http::Response<ureq::Body>) -> Result<Value> {
    let status = response.status();
    let text = response.body_mut().read_to_string().with_context(|| format!("{method} {url} broke off"))?;
    if !status.is_success() {
        bail!("{method} {url} was answered with {status}: {}", text.trim());
    }
    serde_json::from_str(&text)
        .with_context(|| format!("{method} {url} was answered with something else than JSON"))
}

/// The preferred port of the loopback address, or any free one.
fn free_address(preferred: u16) -> Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", preferred))
        .or_else(|_| TcpListener::bind(("127.0.0.1", 0)))
        .context("no port of 127.0.0.1 is free")?;
    Ok(listener.local_addr().context("the free port has no address")?.to_string())
}
