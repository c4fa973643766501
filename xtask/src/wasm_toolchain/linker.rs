//! The linker of both routes: `wasm-component-ld` of the Rust toolchain, behind a wrapper that rustc can call.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// Writes the wrapper below `prefix` and returns its path.
///
/// rustc begins a `wasm-ld` linker's arguments with `-flavor wasm`, which `wasm-component-ld` doesn't know; the wrapper
/// drops it and says where `wasm-ld` is.
pub(crate) fn write_wrapper(prefix: &Path) -> Result<PathBuf> {
    let tools = toolchain_tools()?;
    let (component_linker, module_linker) = (tools.join("wasm-component-ld"), tools.join("gcc-ld/wasm-ld"));
    for tool in [&component_linker, &module_linker] {
        if !tool.is_file() {
            bail!(
                "the Rust toolchain has no {}: guests are linked with it, install Rust by rustup (1.95 or newer)",
                tool.display()
            );
        }
    }
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = -flavor ] && shift 2\nexec '{}' --wasm-ld-path '{}' \"$@\"\n",
        component_linker.display(),
        module_linker.display()
    );
    let wrapper = prefix.join("bin/espalier-component-linker");
    write_executable(&wrapper, &script)?;
    Ok(wrapper)
}

/// Writes a script unless it is there already: a build that uses it now must not see it change.
pub(crate) fn write_executable(path: &Path, script: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|found| found == script) {
        return Ok(());
    }
    let cannot = || format!("can't write {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(cannot)?;
    }
    let partial = path.with_extension("partial");
    fs::write(&partial, script).with_context(cannot)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&partial, fs::Permissions::from_mode(0o755)).with_context(cannot)?;
    }
    fs::rename(&partial, path).with_context(cannot)
}

/// The folder of the tools that the machine's own Rust toolchain brings for its host.
fn toolchain_tools() -> Result<PathBuf> {
    let mut ask = Command::new("rustc");
    ask.env_remove("RUSTC");
    let sysroot = process::output("ask rustc where it is", ask.args(["--print", "sysroot"]))?;
    let version = process::output("ask rustc for its host", Command::new("rustc").arg("-vV"))?;
    let Some(host) = version.lines().find_map(|line| line.strip_prefix("host: ")) else {
        bail!("`rustc -vV` names no host");
    };
    Ok(Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin"))
}
