//! Debian's C compiler for WebAssembly with its libc, in the cache, for the tests of templates in C.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::debian_packages::{archives, dependency, fetch};
use crate::download::remove_folder;
use crate::wasm_toolchain::linker;
use crate::workspace::{self, Workspace};
use crate::{process, progress};

/// Finds its libraries and its linker beside itself, so that the cache may move.
const COMPILER_WRAPPER: &str = r#"#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
LD_LIBRARY_PATH="$here/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
PATH="$here/usr/bin:$PATH"
export LD_LIBRARY_PATH PATH
exec "$here"/usr/lib/llvm-*/bin/clang "$@"
"#;

/// Unpacks the compiler unless it is there, and returns a `clang` that has the libc's prefix `usr` beside it.
pub(crate) fn prepare(workspace: &Workspace) -> Result<PathBuf> {
    if !process::succeeds("make", &["--version"]) {
        bail!("`make`, by which projects in C are built, does not run");
    }
    let _lock = workspace::lock(workspace.cache())?;
    let folder = workspace.cache().join("clang");
    let clang = folder.join("clang");
    if clang.is_file() {
        return Ok(clang);
    }
    if !process::succeeds("apt-get", &["--version"]) {
        bail!("clang, lld and wasi-libc are taken from Debian, and `apt-get` does not run");
    }
    remove_folder(&folder)?;
    let debs = folder.join("debs");
    fs::create_dir_all(&debs).with_context(|| format!("can't make the folder {}", debs.display()))?;
    let bar = progress::waiting("fetching clang, lld and wasi-libc (35 MB)");
    unpack(&folder, &debs)?;
    bar.finish_and_clear();
    remove_folder(&debs)?;
    // Written last: a folder without it is half made.
    let partial = folder.join("clang.partial");
    linker::write_executable(&partial, COMPILER_WRAPPER)?;
    process::output("run Debian's clang", Command::new(&partial).arg("--version"))?;
    fs::rename(&partial, &clang).with_context(|| format!("can't put {} in place", clang.display()))?;
    Ok(clang)
}

fn unpack(folder: &Path, debs: &Path) -> Result<()> {
    let fetched = packages().and_then(|packages| fetch(&packages, debs));
    if fetched.is_err() {
        // The package lists may be missing or old; if they can't be renewed, the second try says what is wrong.
        process::succeeds("apt-get", &["update", "-qq"]);
        fetch(&packages()?, debs)?;
    }
    for deb in archives(debs)? {
        let purpose = format!("unpack {}", deb.display());
        process::output(&purpose, Command::new("dpkg-deb").arg("-x").arg(&deb).arg(folder))?;
    }
    Ok(())
}

/// The compiler's packages, of the version that Debian's `clang` is.
fn packages() -> Result<Vec<String>> {
    let clang = dependency("clang", "clang-")?;
    let version = clang.trim_start_matches("clang-");
    Ok(vec![
        format!("libclang-cpp{version}"),
        format!("libllvm{version}"),
        format!("libclang-common-{version}-dev"),
        format!("lld-{version}"),
        "wasi-libc".to_owned(),
        clang,
    ])
}
