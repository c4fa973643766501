//! How soon a component is active in a slot: compiled for the first time, and by a host that starts on the same state.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use espalier_components::{Deployments, Host, HostConfig, Slot};
use espalier_state::State;
use serde::Serialize;
use tempfile::TempDir;

use crate::commands::bench::measure::Percentiles;

/// Times of deployments.
#[derive(Serialize)]
pub(super) struct Deployment {
    /// Compiling, checking, storing, activating.
    pub(super) compiled: Percentiles,
    /// The same with code that an earlier host compiled.
    pub(super) cached: Percentiles,
}

/// Deploys the component so often, each time to an empty state directory and then again by another host.
pub(super) fn measure(label: &str, bytes: &[u8], repetitions: usize) -> Result<Deployment> {
    let (mut compiled, mut cached) = (Vec::new(), Vec::new());
    for _ in 0..repetitions {
        let folder = tempfile::tempdir().context("no folder for the state")?;
        compiled.push(deploy(&folder, label, bytes)?);
        cached.push(deploy(&folder, label, bytes)?);
    }
    Ok(Deployment { compiled: Percentiles::of(compiled), cached: Percentiles::of(cached) })
}

fn deploy(folder: &TempDir, label: &str, bytes: &[u8]) -> Result<Duration> {
    let state = State::open(folder.path())?;
    let deployments = Deployments::open(Host::with_state(HostConfig::default(), &state)?, state)?;
    let began = Instant::now();
    let deployed = deployments.deploy(label, bytes, None)?.record;
    let slot = Slot::default_for(deployed.world, &deployed.name);
    deployments.activate(&slot, &deployed.digest.to_string(), None)?;
    Ok(began.elapsed())
}
