//! A server of this program in a process of its own, with two variants of a tiny model, a router and an endpoint.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use espalier_model::{SynthShape, synthesize};
use tempfile::TempDir;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process that ends with this value.
pub(super) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The server.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    /// Ends before its folder goes.
    _process: Process,
    _folder: TempDir,
}

impl Server {
    /// Starts it and deploys the router and the endpoint.
    pub(super) fn start(router: &str, endpoint: &str) -> Result<Self> {
        let folder = tempfile::tempdir().context("no folder for the server")?;
        let model = folder.path().join("model");
        synthesize(&SynthShape::default(), &model, 1)?;
        let (address, admin) = (free_address()?, free_address()?);
        let program = std::env::current_exe().context("where this program is")?;
        let mut serve = Command::new(&program);
        serve.arg("serve").arg("--state-dir").arg(folder.path().join("state"));
        for variant in ["a", "b"] {
            serve.arg("--model").arg(format!("tiny@{variant}={}", model.display()));
        }
        serve.args(["--device", "cpu", "--threads", "1", "--listen", &address.to_string()]);
        serve.args(["--admin-listen", &admin.to_string()]);
        let process = spawn(serve, address, &folder.path().join("server.log"))?;
        for component in [router, endpoint] {
            let mut deploy = Command::new(&program);
            deploy.args(["component", "--admin", &format!("http://{admin}"), "deploy", component]);
            let done = deploy.output().context("the component could not be deployed")?;
            ensure!(
                done.status.success(),
                "{component} was not deployed: {}",
                String::from_utf8_lossy(&done.stderr).trim()
            );
        }
        Ok(Self { address, _process: process, _folder: folder })
    }
}

/// Starts a server and waits until it takes connections.
pub(super) fn spawn(mut command: Command, address: SocketAddr, log: &Path) -> Result<Process> {
    let file = File::create(log).with_context(|| format!("can't write {}", log.display()))?;
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    let mut process = Process(command.spawn().with_context(|| format!("{program} could not be started"))?);
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        if process.0.try_wait()?.is_some() || began.elapsed() > PATIENCE {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            bail!("{program} does not listen on {address}: {}", said.trim());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(process)
}

/// A port that was free a moment ago.
pub(super) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
