//! `espalier serve` in a process of its own, on ports of its own.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{self, Answer};
use crate::program;

const LOADING: Duration = Duration::from_secs(60);
const ENDING: Duration = Duration::from_secs(30);

/// A host that is ready; it is killed with this value.
pub(crate) struct RunningHost {
    child: Child,
    public: String,
    admin: String,
    log: PathBuf,
}

impl RunningHost {
    /// Serves models (`NAME=PATH` or `NAME@VARIANT=PATH`) with its state and log in `folder`.
    pub(crate) fn start(folder: &Path, models: &[String]) -> Self {
        Self::start_with(folder, models, &[])
    }

    /// The same with further arguments.
    pub(crate) fn start_with(folder: &Path, models: &[String], arguments: &[&str]) -> Self {
        let log = folder.join("host.log");
        let output = File::create(&log).unwrap();
        let (public, admin) = free_addresses();
        let mut command = Command::new(program::espalier());
        command.args(["serve", "--listen", &public, "--admin-listen", &admin, "--state-dir"]);
        command.arg(folder.join("state")).args(arguments);
        for model in models {
            command.args(["--model", model]);
        }
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let child = command.spawn().unwrap();
        let mut host =
            Self { child, public: format!("http://{public}"), admin: format!("http://{admin}"), log };
        let began = Instant::now();
        while ureq::get(host.url("/ready")).call().is_err() {
            let ended = host.child.try_wait().unwrap();
            assert!(ended.is_none(), "the host ended with {ended:?}:\n{}", host.log());
            assert!(began.elapsed() < LOADING, "the host is not ready:\n{}", host.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        host
    }

    /// A path of the public listener.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.public)
    }

    /// A path of the admin listener.
    pub(crate) fn admin_url(&self, path: &str) -> String {
        format!("{}{path}", self.admin)
    }

    /// The address and port of the public listener.
    pub(crate) fn socket_address(&self) -> &str {
        self.public.trim_start_matches("http://")
    }

    /// Runs `espalier ARGUMENTS… --admin URL`, which must succeed, and returns what it printed.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        let output = program::run(&[arguments, &["--admin", &self.admin]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A greedy completion of a few tokens.
    pub(crate) fn complete(&self, model: &str, max_tokens: u32) -> Answer {
        let body =
            json!({"model": model, "prompt": "four score", "max_tokens": max_tokens, "temperature": 0});
        http::post(&self.url("/v1/completions"), &body)
    }

    /// Waits until a job has ended, and returns it.
    pub(crate) fn job(&self, id: u64) -> Value {
        let began = Instant::now();
        loop {
            let job = http::get(&self.admin_url(&format!("/admin/v1/jobs/{id}"))).success();
            match job["state"].as_str() {
                Some("queued" | "running") => std::thread::sleep(Duration::from_millis(10)),
                _ => return job,
            }
            assert!(began.elapsed() < Duration::from_secs(120), "{job}\n{}", self.log());
        }
    }

    /// Checks that the process lives and answers.
    #[track_caller]
    pub(crate) fn is_healthy(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "the host ended:\n{}", self.log());
        assert_eq!(http::get(&self.url("/health")).status, 200);
        assert!(!self.log().contains("panicked"), "{}", self.log());
    }

    /// Asks the process to end and waits until it has.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(asked.success());
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < ENDING, "the host does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the host has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for RunningHost {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// Two addresses that nobody listens on; both are held until both are known.
fn free_addresses() -> (String, String) {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [public, admin] = listeners.map(|listener| listener.local_addr().unwrap().to_string());
    (public, admin)
}
