//! The route without rustup's target: Debian's `rustc-web`, unpacked below a private prefix, and std built once with it.
//!
//! The marker `std-ok` is written last. A prefix without it is cleared and begun anew, so that a killed run never
//! leaves half a toolchain that looks whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{TRIPLE, cargo_without_inherited_flags, linker};
use crate::debian_packages::{archives, dependency, fetch};
use crate::download::remove_folder;
use crate::{process, progress};

/// Libraries of Debian 12 that the compiler's LLVM needs and a bare machine may lack: shared object, package.
const LIBRARY_PACKAGES: [(&str, &str); 10] = [
    ("libz3.so.4", "libz3-4"),
    ("libedit.so.2", "libedit2"),
    ("libxml2.so.2", "libxml2"),
    ("libicu", "libicu72"),
    ("libbsd.so.0", "libbsd0"),
    ("libmd.so.0", "libmd0"),
    ("libtinfo.so.6", "libtinfo6"),
    ("libffi.so.8", "libffi8"),
    ("libzstd.so.1", "libzstd1"),
    ("liblzma.so.5", "liblzma5"),
];

/// A library may need another, which may need another.
const LIBRARY_ROUNDS: usize = 4;

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Whether an earlier run has finished the toolchain.
fn is_ready(prefix: &Path) -> bool {
    prefix.join("std-ok").is_file()
}

/// Makes the toolchain below `prefix` unless it is there, and returns the compiler to give cargo.
pub(crate) fn prepare(prefix: &Path) -> Result<PathBuf> {
    let rustc = prefix.join("bin/rustc");
    linker::write_executable(&rustc, COMPILER_WRAPPER)?;
    if is_ready(prefix) {
        return Ok(rustc);
    }
    let architecture =
        process::output("tell the Debian architecture", Command::new("dpkg").arg("--print-architecture"));
    if architecture.is_ok_and(|name| name.trim() != "amd64") || !process::succeeds("apt-get", &["--version"])
    {
        bail!(
            "guests need the target {TRIPLE}: run `rustup target add {TRIPLE}`, or set ESPALIER_WASM_TOOLCHAIN=rustup, which \
             lets setup run it (the other route needs Debian 12 on amd64)"
        );
    }
    for folder in ["usr", "lib", "debs", "build"] {
        remove_folder(&prefix.join(folder))?;
    }
    let debs = prefix.join("debs");
    fs::create_dir_all(&debs).with_context(|| format!("can't make the folder {}", debs.display()))?;
    unpack_compiler(prefix, &debs)?;
    unpack_missing_libraries(prefix, &debs)?;
    let version = process::output("run Debian's compiler", Command::new(&rustc).arg("-V"))?;
    build_std(prefix, &rustc)?;
    for folder in ["build", "debs", "usr/src", "usr/lib/rustlib/src"] {
        remove_folder(&prefix.join(folder))?;
    }
    let marker = prefix.join("std-ok");
    fs::write(&marker, version).with_context(|| format!("can't write {}", marker.display()))?;
    Ok(rustc)
}

/// Finds its libraries beside itself, so that the prefix may move.
const COMPILER_WRAPPER: &str = r#"#!/bin/sh
here=$(cd "$(dirname "$0")/.." && pwd)
LD_LIBRARY_PATH="$here/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export LD_LIBRARY_PATH
exec "$here/usr/bin/rustc" "$@"
"#;

/// The compiler's packages, the versioned names found from what the unversioned ones depend on.
fn compiler_packages() -> Result<Vec<String>> {
    let std = dependency("libstd-rust-web-dev", "libstd-rust-web-")?;
    let llvm = dependency(&std, "libllvm")?;
    Ok(vec!["rustc-web".into(), std, "libstd-rust-web-dev".into(), "rust-web-src".into(), llvm])
}

fn unpack_compiler(prefix: &Path, debs: &Path) -> Result<()> {
    let bar = progress::waiting("fetching Debian's rustc-web (140 MB)");
    let fetched = compiler_packages().and_then(|packages| fetch(&packages, debs));
    if fetched.is_err() {
        // The package lists may be missing or old; if they can't be renewed, the second try says what is wrong.
        process::succeeds("apt-get", &["update", "-qq"]);
        fetch(&compiler_packages()?, debs)?;
    }
    bar.finish_and_clear();
    let bar = progress::waiting("unpacking the compiler");
    for deb in archives(debs)? {
        let is_source =
            deb.file_name().is_some_and(|name| name.to_string_lossy().starts_with("rust-web-src_"));
        unpack(&deb, prefix, is_source)?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// Unpacks a package, of the source package only the standard library.
fn unpack(deb: &Path, prefix: &Path, is_source: bool) -> Result<()> {
    let purpose = format!("unpack {}", deb.display());
    if !is_source {
        return process::output(&purpose, Command::new("dpkg-deb").arg("-x").arg(deb).arg(prefix)).map(drop);
    }
    let script = r#"dpkg-deb --fsys-tarfile "$1" |
        tar -x -C "$2" --wildcards './usr/src/*/library' './usr/lib/rustlib/src*'"#;
    process::output(&purpose, Command::new("sh").args(["-ec", script, "sh"]).arg(deb).arg(prefix)).map(drop)
}

fn unpack_missing_libraries(prefix: &Path, debs: &Path) -> Result<()> {
    let libraries = prefix.join(LIBRARIES);
    for _ in 0..LIBRARY_ROUNDS {
        let missing = missing_libraries(prefix, &libraries)?;
        if missing.is_empty() {
            break;
        }
        for library in missing {
            let Some((_, package)) = LIBRARY_PACKAGES.iter().find(|(start, _)| library.starts_with(start))
            else {
                bail!("Debian's compiler needs {library}, and no package is known for it");
            };
            let folder = debs.join(package);
            fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
            fetch(&[(*package).to_owned()], &folder)?;
            for deb in archives(&folder)? {
                unpack(&deb, prefix, false)?;
            }
        }
        let beside = prefix.join("lib/x86_64-linux-gnu");
        if beside.is_dir() {
            let mut copy = Command::new("cp");
            process::output("gather the libraries", copy.arg("-a").arg(beside.join(".")).arg(&libraries))?;
        }
    }
    Ok(())
}

/// The shared objects that the compiler and its LLVM want and the machine lacks, by `ldd`.
fn missing_libraries(prefix: &Path, libraries: &Path) -> Result<Vec<String>> {
    let mut ldd = Command::new("ldd");
    ldd.env("LD_LIBRARY_PATH", libraries).arg(prefix.join("usr/bin/rustc"));
    for entry in libraries.read_dir().with_context(|| format!("can't list {}", libraries.display()))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("libLLVM") {
            ldd.arg(entry.path());
        }
    }
    let text = process::output("see what Debian's compiler needs", &mut ldd)?;
    let mut missing: Vec<String> = text
        .lines()
        .filter_map(|line| line.trim().strip_suffix("=> not found"))
        .map(|name| name.trim().into())
        .collect();
    missing.sort();
    missing.dedup();
    Ok(missing)
}

/// Builds std for the guests' target into the private sysroot, with object code and bitcode, so that guests may use LTO.
fn build_std(prefix: &Path, rustc: &Path) -> Result<()> {
    let bar = progress::waiting("building the guests' standard library (about 2 minutes on 2 cores)");
    let folder = prefix.join("build");
    let cannot = || format!("can't write into {}", folder.display());
    fs::create_dir_all(folder.join("src")).with_context(cannot)?;
    fs::write(folder.join("src/lib.rs"), "#![no_std]\n").with_context(cannot)?;
    fs::write(folder.join("Cargo.toml"), EMPTY_PACKAGE).with_context(cannot)?;
    let target = folder.join("target");
    let mut cargo = cargo_without_inherited_flags();
    cargo.args(["build", "--release", "--target", TRIPLE, "-Zbuild-std=std,panic_abort"]);
    // Only here: build-std is a nightly feature, and this std is the compiler's own.
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", rustc).env("CARGO_TARGET_DIR", &target);
    cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", "-Cembed-bitcode=yes").current_dir(&folder);
    process::output("build the guests' standard library", &mut cargo)?;

    let sysroot = prefix.join("usr/lib/rustlib").join(TRIPLE).join("lib");
    fs::create_dir_all(&sysroot).with_context(|| format!("can't make {}", sysroot.display()))?;
    let mut cores = 0;
    let built = target.join(TRIPLE).join("release/deps");
    for entry in built.read_dir().with_context(|| format!("can't list {}", built.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with(".rlib") || name.starts_with("libespalier_std-") {
            continue;
        }
        cores += usize::from(name.starts_with("libcore-"));
        fs::copy(entry.path(), sysroot.join(&name)).with_context(|| format!("can't copy {name}"))?;
    }
    if cores != 1 {
        bail!("the guests' standard library has {cores} builds of core, expected 1");
    }
    bar.finish_and_clear();
    Ok(())
}

const EMPTY_PACKAGE: &str = r#"[package]
name = "espalier-std"
version = "0.0.0"
edition = "2021"

[workspace]

[profile.release]
opt-level = 3
debug = 0
"#;
