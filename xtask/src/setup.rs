//! `cargo xtask setup`: everything that the demo and the tests need before the host is built.

use anyhow::Result;

use crate::workspace::{self, Workspace};
use crate::{console, guests, model, prerequisites, texts};

/// Checks the prerequisites, fetches the model and the texts, builds the guests. What is there already is kept.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    console::step("setup: prerequisites");
    prerequisites::check()?;
    fetch(workspace)?;
    guests::build(workspace)?;
    Ok(())
}

/// The part of setup that needs no compiler.
fn fetch(workspace: &Workspace) -> Result<()> {
    let _lock = workspace::lock(workspace.cache())?;
    console::step("setup: model");
    let model = model::fetch(workspace)?;
    console::note(&format!("{}", model.display()));
    console::step("setup: texts");
    let texts = texts::fetch(workspace)?;
    console::note(&format!("{}", texts.display()));
    Ok(())
}
