//! The endpoint under load beside `wasmtime serve` with the same file and the same load, in turn.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use espalier_components::find_component;
use serde::Serialize;
use tempfile::TempDir;

use super::connection::{Connection, get};
use super::server::{Process, Server, free_address, spawn};
use crate::commands::bench::measure::Percentiles;

/// What clients do.
pub(super) struct Load {
    pub(super) clients: usize,
    pub(super) seconds: u64,
    pub(super) rounds: usize,
}

/// One server under load.
#[derive(Serialize)]
pub(super) struct Served {
    /// Requests in a second, of each round.
    pub(super) rates: Vec<f64>,
    /// The median of them.
    pub(super) requests_per_second: f64,
    pub(super) latency: Percentiles,
}

/// Both servers.
#[derive(Serialize)]
pub(super) struct Http {
    pub(super) espalier: Served,
    /// Nothing where no `wasmtime` was named.
    pub(super) wasmtime_serve: Option<Served>,
    /// The median of the rounds' ratios.
    pub(super) ratio: Option<f64>,
}

pub(super) fn measure(server: &Server, endpoint: &str, wasmtime: Option<&Path>, load: &Load) -> Result<Http> {
    let folder = tempfile::tempdir().context("no folder for the peer")?;
    let peer = wasmtime.map(|program| start(program, endpoint, &folder)).transpose()?;
    let ours = get(&format!("/ext/{}", endpoint_name(endpoint)?));
    let theirs = get("/");
    let warm_up = Load { seconds: 1, ..*load };
    press(server.address, &ours, &warm_up)?;
    if let Some((address, _)) = &peer {
        press(*address, &theirs, &warm_up)?;
    }
    let (mut espalier, mut other) = (Vec::new(), Vec::new());
    for round in 0..load.rounds {
        let measure_peer = |rounds: &mut Vec<Round>| -> Result<()> {
            if let Some((address, _)) = &peer {
                rounds.push(press(*address, &theirs, load)?);
            }
            Ok(())
        };
        if round % 2 == 1 {
            measure_peer(&mut other)?;
        }
        espalier.push(press(server.address, &ours, load)?);
        if round % 2 == 0 {
            measure_peer(&mut other)?;
        }
    }
    let ratios: Vec<f64> =
        espalier.iter().zip(&other).map(|(ours, theirs)| ours.rate / theirs.rate).collect();
    Ok(Http {
        ratio: (!ratios.is_empty()).then(|| middle(ratios)),
        espalier: served(espalier),
        wasmtime_serve: (!other.is_empty()).then(|| served(other)),
    })
}

/// The name that the endpoint's slot has by default: its component's own, which its file has too.
fn endpoint_name(endpoint: &str) -> Result<String> {
    let path = find_component(endpoint)?;
    let name = path.file_stem().ok_or_else(|| anyhow!("{endpoint} has no file name"))?;
    Ok(name.to_string_lossy().into_owned())
}

fn start(program: &Path, endpoint: &str, folder: &TempDir) -> Result<(SocketAddr, Process)> {
    let address = free_address()?;
    let mut serve = Command::new(program);
    serve.args(["serve", "--addr", &address.to_string()]).arg(find_component(endpoint)?);
    Ok((address, spawn(serve, address, &folder.path().join("wasmtime.log"))?))
}

/// One round.
struct Round {
    rate: f64,
    latencies: Vec<Duration>,
}

/// Sends the request again and again from several clients at once.
fn press(address: SocketAddr, request: &[u8], load: &Load) -> Result<Round> {
    let time = Duration::from_secs(load.seconds);
    let began = Instant::now();
    let client = || -> Result<Vec<Duration>> {
        let mut connection = Connection::open(address)?;
        let mut latencies = Vec::new();
        while began.elapsed() < time {
            latencies.push(connection.ask(request)?);
        }
        Ok(latencies)
    };
    let latencies = thread::scope(|scope| -> Result<Vec<Duration>> {
        let clients: Vec<_> = (0..load.clients).map(|_| scope.spawn(client)).collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.join().map_err(|_| anyhow!("a client ended abnormally"))??);
        }
        Ok(all)
    })?;
    Ok(Round { rate: latencies.len() as f64 / began.elapsed().as_secs_f64(), latencies })
}

fn served(rounds: Vec<Round>) -> Served {
    let rates: Vec<f64> = rounds.iter().map(|round| round.rate).collect();
    let requests_per_second = middle(rates.clone());
    let latency = Percentiles::of(rounds.into_iter().flat_map(|round| round.latencies).collect());
    Served { rates, requests_per_second, latency }
}

/// The median; there is at least one.
fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
