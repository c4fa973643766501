//! NVIDIA's compiler of CUDA kernels, for tests on the simulated driver. It is fetched from Python's registry and never
//! part of what the project gives away.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::download::remove_folder;
use crate::process::output;
use crate::progress;
use crate::workspace::{self, Workspace};

/// The version whose code the simulated driver is tested with.
const PACKAGE: &str = "nvidia-cuda-nvrtc==13.5.37";

/// The folder of the compiler's libraries, which `python` fetches the first time.
pub(crate) fn libraries(workspace: &Workspace, python: &Path) -> Result<PathBuf> {
    let folder = workspace.cache().join("nvrtc");
    let libraries = folder.join("nvidia/cu13/lib");
    if libraries.join("libnvrtc.so.13").is_file() {
        return Ok(libraries);
    }
    let _lock = workspace::lock(workspace.cache())?;
    let partial = workspace.cache().join("nvrtc.partial");
    remove_folder(&partial)?;
    let bar = progress::waiting("fetching NVIDIA's kernel compiler");
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]).arg(&partial).arg(PACKAGE);
    output("fetch NVIDIA's kernel compiler", &mut pip)?;
    bar.finish_and_clear();
    remove_folder(&folder)?;
    fs::rename(&partial, &folder).with_context(|| format!("can't make {}", folder.display()))?;
    Ok(libraries)
}

/// A folder with the simulated driver, which cargo has built, under the name that programs look for.
pub(crate) fn simulated_driver(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.cache().join("simulated-driver");
    remove_folder(&folder)?;
    fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
    symlink(workspace.simulated_driver(), folder.join("libcuda.so"))
        .with_context(|| format!("can't fill {}", folder.display()))?;
    Ok(folder)
}
