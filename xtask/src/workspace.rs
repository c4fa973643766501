//! Where things are: the repository, its build outputs, the download cache and the wasm toolchain.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The folders that the tasks read and write.
pub(crate) struct Workspace {
    root: PathBuf,
    cache: PathBuf,
    target: PathBuf,
    wasm_toolchain: PathBuf,
}

impl Workspace {
    /// Finds the repository from where cargo runs this program, and the folders that the environment moves:
    /// `ESPALIER_CACHE` (default `.espalier`), `ESPALIER_WASM_TOOLCHAIN_DIR` (default `.wasm-toolchain`) and
    /// `CARGO_TARGET_DIR` (default `target`).
    pub(crate) fn locate() -> Result<Self> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let start = match manifest {
            Some(folder) => folder,
            None => env::current_dir().context("can't tell the current folder")?,
        };
        let Some(root) = start.ancestors().find(|folder| folder.join("xtask/Cargo.toml").is_file()) else {
            bail!("{} is not inside the Espalier repository: run `cargo xtask` there", start.display());
        };
        let folder = |variable: &str, default: &str| -> Result<PathBuf> {
            match env::var_os(variable).filter(|value| !value.is_empty()) {
                Some(value) => std::path::absolute(PathBuf::from(value))
                    .with_context(|| format!("{variable} is not a usable path")),
                None => Ok(root.join(default)),
            }
        };
        Ok(Self {
            cache: folder("ESPALIER_CACHE", ".espalier")?,
            target: folder("CARGO_TARGET_DIR", "target")?,
            wasm_toolchain: folder("ESPALIER_WASM_TOOLCHAIN_DIR", ".wasm-toolchain")?,
            root: root.to_path_buf(),
        })
    }

    /// The repository.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What was downloaded and unpacked, and what the demo makes; may be shared by several clones.
    pub(crate) fn cache(&self) -> &Path {
        &self.cache
    }

    /// The private prefix of the Debian route's compiler, and the linker wrapper of both routes.
    pub(crate) fn wasm_toolchain(&self) -> &Path {
        &self.wasm_toolchain
    }

    /// The guests' own workspace.
    pub(crate) fn guests(&self) -> PathBuf {
        self.root.join("components")
    }

    /// Where the built guests are put, `NAME.wasm` each.
    pub(crate) fn built_guests(&self) -> PathBuf {
        self.target.join("components")
    }

    /// The built simulated driver of CUDA devices.
    pub(crate) fn simulated_driver(&self) -> PathBuf {
        self.target.join("release/deps/libcuda_sim.so")
    }

    /// The built host program.
    pub(crate) fn espalier(&self) -> PathBuf {
        self.target.join("release/espalier")
    }
}

/// Waits until no other process holds `folder`'s lock, then holds it until the returned file is dropped.
pub(crate) fn lock(folder: &Path) -> Result<File> {
    fs::create_dir_all(folder).with_context(|| format!("can't make the folder {}", folder.display()))?;
    let path = folder.join(".lock");
    let file = File::create(&path).with_context(|| format!("can't make the lock file {}", path.display()))?;
    if file.try_lock().is_err() {
        crate::console::note(&format!("waiting for another xtask that works in {}", folder.display()));
        file.lock().with_context(|| format!("can't lock {}", path.display()))?;
    }
    Ok(file)
}
