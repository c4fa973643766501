//! The ordinary route: the target that rustup installs for the machine's own compiler.

use std::process::Command;

use anyhow::Result;

use super::TRIPLE;
use crate::process;

/// Whether the target is installed.
pub(crate) fn has_target() -> bool {
    process::output("list rustup's targets", Command::new("rustup").args(["target", "list", "--installed"]))
        .is_ok_and(|targets| targets.lines().any(|target| target.trim() == TRIPLE))
}

/// Installs the target unless it is there.
pub(crate) fn add_target() -> Result<()> {
    if !has_target() {
        process::run("add the guests' target", Command::new("rustup").args(["target", "add", TRIPLE]))?;
    }
    Ok(())
}
