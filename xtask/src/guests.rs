//! Building the guests' own workspace into components, and putting them where the host finds them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::wasm_toolchain::{TRIPLE, WasmToolchain};
use crate::workspace::{self, Workspace};
use crate::{console, process};

/// The part of `cargo metadata` that says which libraries the workspace builds.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    crate_types: Vec<String>,
}

/// Builds every guest and copies each to `target/components/PACKAGE.wasm`; returns the paths by package name.
pub(crate) fn build(workspace: &Workspace) -> Result<BTreeMap<String, PathBuf>> {
    let toolchain = WasmToolchain::prepare(workspace)?;
    console::step("setup: guest components");
    let manifest = workspace.guests().join("Cargo.toml");
    let mut cargo = toolchain.cargo();
    cargo.args(["build", "--release", "--workspace", "--locked", "--manifest-path"]).arg(&manifest);
    process::run("build the guests", &mut cargo)?;

    let text = process::output(
        "list the guests",
        Command::new("cargo")
            .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
            .arg(&manifest),
    )?;
    let metadata: Metadata = serde_json::from_str(&text).context("`cargo metadata` printed no such JSON")?;
    let built = metadata.target_directory.join(TRIPLE).join("release");
    let destination = workspace.built_guests();
    let _lock = workspace::lock(&destination)?;
    let mut guests = BTreeMap::new();
    for package in metadata.packages {
        let Some(target) =
            package.targets.iter().find(|target| target.crate_types.iter().any(|kind| kind == "cdylib"))
        else {
            continue;
        };
        let component = built.join(format!("{}.wasm", target.name.replace('-', "_")));
        let copy = destination.join(format!("{}.wasm", package.name));
        let partial = copy.with_extension("partial");
        fs::copy(&component, &partial).with_context(|| format!("can't copy {}", component.display()))?;
        fs::rename(&partial, &copy).with_context(|| format!("can't put {} in place", copy.display()))?;
        guests.insert(package.name, copy);
    }
    if guests.is_empty() {
        bail!("{} has no package with crate-type cdylib", manifest.display());
    }
    remove_others(&destination, &guests)?;
    console::note(&format!("{} components in {}", guests.len(), destination.display()));
    Ok(guests)
}

/// Removes components of guests that are no more, which the host would still find by name.
fn remove_others(folder: &Path, guests: &BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in folder.read_dir().with_context(|| format!("can't list {}", folder.display()))? {
        let path = entry?.path();
        let is_component = path.extension().is_some_and(|extension| extension == "wasm");
        if is_component && !guests.values().any(|guest| *guest == path) {
            fs::remove_file(&path).with_context(|| format!("can't remove {}", path.display()))?;
        }
    }
    Ok(())
}
