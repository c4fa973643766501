//! Building the host program.

use std::process::Command;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{console, process};

/// Builds `espalier` in the one profile that the demo, the tests and the benches share.
///
/// The whole workspace is built, as the tests do: cargo unites the features of what is selected, and another selection
/// would compile the largest dependencies once more.
pub(crate) fn espalier(workspace: &Workspace) -> Result<()> {
    console::step("build: espalier");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked", "--workspace"]).current_dir(workspace.root());
    process::run("build the host", &mut cargo)
}
