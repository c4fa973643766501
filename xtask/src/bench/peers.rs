//! `cargo xtask bench peers`: this program and llama.cpp in turn, on the same models and machine.

use std::process::Command;

use anyhow::Result;

use crate::prerequisites::PYTHON;
use crate::workspace::Workspace;
use crate::{build, console, model, process, setup};

/// Builds both sides, then hands over to `bench/peers`, which explains the method; `arguments` go to its `run`.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    setup::run(workspace)?;
    build::espalier(workspace)?;
    let script = workspace.root().join("bench/peers");
    console::step("bench: build llama.cpp (half an hour on 2 cores, once)");
    let mut peers = Command::new(PYTHON);
    peers.arg(&script).args(["build", "--cache"]).arg(workspace.cache());
    process::run("build llama.cpp", &mut peers)?;
    console::step("bench: measure both in turn");
    let mut peers = Command::new(PYTHON);
    peers.arg(&script).arg("run").arg("--model").arg(model::path(workspace)).arg("--espalier");
    peers.arg(workspace.espalier()).arg("--cache").arg(workspace.cache()).args(arguments);
    process::run("measure", &mut peers)
}
