//! A server in this process, on ports of its own, with a synthetic model.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use espalier_components::HostConfig;
use espalier_engine::{EngineConfig, VariantSource};
use espalier_kernels::{CacheFormat, Cpu, Precision};
use espalier_model::{SynthShape, synthesize};
use espalier_server::{Addresses, Application, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The served name of the model unless a test says otherwise.
pub(crate) const MODEL: &str = "tiny";
/// Longest prompt plus completion.
pub(crate) const CONTEXT: usize = 256;
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; it ends with this value.
pub(crate) struct Host {
    pub(crate) application: Arc<Application>,
    public: SocketAddr,
    admin: SocketAddr,
    thread: Option<JoinHandle<()>>,
    folder: TempDir,
    agent: ureq::Agent,
}

/// What a test wants other than the default.
pub(crate) struct Setup {
    pub(crate) config: EngineConfig,
    pub(crate) admin_token: Option<String>,
    /// The components' sandbox.
    pub(crate) components: HostConfig,
    /// Addresses (`model`, `variant`) to load synthetic models as.
    pub(crate) models: Vec<(&'static str, &'static str)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            config: EngineConfig {
                max_sequences: 4,
                max_step_tokens: 64,
                kv_bytes: 64 << 20,
                kv_format: CacheFormat::default(),
                max_model_len: Some(CONTEXT),
                prefix_cache: true,
                speculative_tokens: 0,
                queue_limit: 16,
                precision: Precision::Exact,
            },
            admin_token: None,
            components: HostConfig::default(),
            models: vec![(MODEL, "original")],
        }
    }
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    #[track_caller]
    pub(crate) fn success(&self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.text);
        self.json()
    }

    /// Checks an error's status, its field and its code.
    #[track_caller]
    pub(crate) fn is_refused(&self, status: u16, param: Option<&str>, code: &str) {
        assert_eq!(self.status, status, "{}", self.text);
        let error = &self.json()["error"];
        assert_eq!(error["param"].as_str(), param, "{}", self.text);
        assert_eq!(error["code"], code, "{}", self.text);
        assert!(error["message"].as_str().is_some_and(|message| message.len() < 2000), "{}", self.text);
    }

    /// The error's sentence.
    pub(crate) fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Host {
    pub(crate) fn start() -> Self {
        Self::with(Setup::default())
    }

    pub(crate) fn with(setup: Setup) -> Self {
        Self::within(tempfile::tempdir().unwrap(), setup)
    }

    /// Ends this server and starts another one on its state directory.
    pub(crate) fn restart(mut self, setup: Setup) -> Self {
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        drop(self);
        Self::within(folder, setup)
    }

    fn within(folder: TempDir, setup: Setup) -> Self {
        for (seed, (model, variant)) in setup.models.iter().enumerate() {
            let path = weights(folder.path(), model, variant);
            if !path.exists() {
                synthesize(&SynthShape::default(), &path, seed as u64).unwrap();
            }
        }
        let state = folder.path().join("state");
        let application =
            Application::open_with(&state, Cpu::new(1).unwrap(), setup.config, setup.components).unwrap();
        for (model, variant) in &setup.models {
            application
                .load(model, variant, &VariantSource::new(weights(folder.path(), model, variant)))
                .unwrap();
        }
        application.restore().unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let addresses = Addresses { public: any, admin: any, admin_token: setup.admin_token };
        let (sender, receiver) = std::sync::mpsc::channel();
        let served = Arc::clone(&application);
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let server = Server::bind(served, addresses).await.unwrap();
                sender.send((server.public_address().unwrap(), server.admin_address().unwrap())).unwrap();
                server.run().await;
            });
            runtime.shutdown_background();
        });
        let (public, admin) = receiver.recv().unwrap();
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
        Self { application, public, admin, thread: Some(thread), folder, agent: config.build().into() }
    }

    pub(crate) fn public(&self) -> SocketAddr {
        self.public
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// A path below the test's own folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The weights that a variant was loaded from.
    pub(crate) fn weights(&self, model: &str, variant: &str) -> PathBuf {
        weights(self.folder.path(), model, variant)
    }

    fn url(&self, path: &str) -> String {
        let address = if path.starts_with("/admin") { self.admin } else { self.public };
        format!("http://{address}{path}")
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }

    pub(crate) fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.agent.get(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(request.call().unwrap())
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        read(self.agent.delete(self.url(path)).call().unwrap())
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_bytes(path, "application/json", body.to_string().as_bytes())
    }

    pub(crate) fn post_bytes(&self, path: &str, media_type: &str, body: &[u8]) -> Answer {
        let request = self.agent.post(self.url(path)).header("content-type", media_type);
        read(request.send(body).unwrap())
    }

    /// A greedy completion of a few tokens.
    pub(crate) fn complete(&self, model: &str) -> Answer {
        let body = json!({"model": model, "prompt": "four", "max_tokens": 4, "temperature": 0});
        self.post("/v1/completions", &body)
    }

    /// Waits until a job has ended, and returns it.
    pub(crate) fn job(&self, id: u64) -> Value {
        eventually(|| {
            let job = self.get(&format!("/admin/v1/jobs/{id}")).success();
            (!matches!(job["state"].as_str(), Some("queued" | "running"))).then_some(job)
        })
    }

    /// The value of a series of `/metrics`, 0 where it does not exist.
    pub(crate) fn series(&self, series: &str) -> f64 {
        let metrics = self.get("/metrics").text;
        let mut lines = metrics.lines();
        let line = lines.find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()).map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits for the server's thread.
    pub(crate) fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.application.begin_drain();
        self.application.drain().stop();
        self.join();
    }
}

fn weights(folder: &Path, model: &str, variant: &str) -> PathBuf {
    folder.join(format!("{model}-{variant}"))
}

fn read(mut response: ureq::http::Response<ureq::Body>) -> Answer {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.body_mut().with_config().limit(64 << 20).read_to_string().unwrap();
    Answer { status, headers, text }
}

/// Asks until there is an answer.
pub(crate) fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begin.elapsed() < PATIENCE, "what was waited for did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}
