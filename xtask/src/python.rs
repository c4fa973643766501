//! The virtual environment of the end-to-end tests, in the cache, with the versions that `requirements.txt` pins.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::download::{remove_folder, sha256_of_file};
use crate::prerequisites::PYTHON;
use crate::process;
use crate::progress;
use crate::workspace::{self, Workspace};

/// Makes the environment unless it is there for the same requirements, and returns its interpreter.
pub(crate) fn environment(workspace: &Workspace) -> Result<PathBuf> {
    let _lock = workspace::lock(workspace.cache())?;
    let requirements = workspace.root().join("tests/python/requirements.txt");
    let wanted = sha256_of_file(&requirements)?;
    let folder = workspace.cache().join("python");
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    // Written last: an environment without it is half made.
    let marker = folder.join("requirements.sha256");
    if fs::read_to_string(&marker).is_ok_and(|found| found == wanted) {
        return Ok(python);
    }
    remove_folder(&folder)?;
    let bar = progress::waiting("making the tests' Python environment");
    process::output("make a virtual environment", Command::new(PYTHON).args(["-m", "venv"]).arg(&folder))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements);
    process::output("install the tests' Python packages", &mut pip)?;
    bar.finish_and_clear();
    fs::write(&marker, wanted).with_context(|| format!("can't write {}", marker.display()))?;
    Ok(python)
}
