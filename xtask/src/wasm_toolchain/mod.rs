//! What builds Rust guests as components for `wasm32-unknown-unknown`, on one of two routes.
//!
//! * `rustup`: the target that rustup installs, with the machine's own compiler.
//! * `debian`: where no target can be fetched from rustup, Debian's `rustc-web` with its standard library's sources,
//!   unpacked (never installed: it conflicts with rustup) below a private prefix; std is built there once.
//!
//! `ESPALIER_WASM_TOOLCHAIN` picks the route; `auto`, the default, takes rustup's target if it is there, else Debian's
//! compiler. Only `rustup` lets setup add the target to the user's own toolchain. Both routes link with the Rust toolchain's own `wasm-component-ld`, which makes the
//! module a component in the same step; a guest imports nothing but what its WIT world says.

mod debian;
pub(crate) mod linker;
mod rustup;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Result, bail};

use crate::console;
use crate::workspace::{self, Workspace};

/// The guests' target: no WASI, so no import that the world doesn't name.
pub(crate) const TRIPLE: &str = "wasm32-unknown-unknown";

const VARIABLE: &str = "ESPALIER_WASM_TOOLCHAIN";

/// How the compiler is had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Route {
    Rustup,
    Debian,
    Auto,
}

impl FromStr for Route {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "rustup" => Ok(Self::Rustup),
            "debian" => Ok(Self::Debian),
            "auto" | "" => Ok(Self::Auto),
            _ => bail!("{VARIABLE} is `{text}`, expected `rustup`, `debian` or `auto`"),
        }
    }
}

/// A compiler and a linker that make components.
pub(crate) struct WasmToolchain {
    /// Debian's compiler; none means the machine's own.
    rustc: Option<PathBuf>,
    linker: PathBuf,
}

impl WasmToolchain {
    /// Makes one ready on the route that the environment asks for. The second time there is nothing left to do.
    pub(crate) fn prepare(workspace: &Workspace) -> Result<Self> {
        let route: Route = env::var(VARIABLE).unwrap_or_default().parse()?;
        console::step("setup: wasm toolchain");
        let prefix = workspace.wasm_toolchain();
        let _lock = workspace::lock(prefix)?;
        let linker = linker::write_wrapper(prefix)?;
        let with_rustup = match route {
            Route::Rustup => {
                rustup::add_target()?;
                true
            }
            Route::Debian => false,
            Route::Auto => rustup::has_target(),
        };
        if with_rustup {
            console::note(&format!("rustup's {TRIPLE}"));
            return Ok(Self { rustc: None, linker });
        }
        let rustc = debian::prepare(prefix)?;
        console::note(&format!("Debian's compiler in {}", prefix.display()));
        Ok(Self { rustc: Some(rustc), linker })
    }

    /// The compiler that has the target.
    pub(crate) fn rustc(&self) -> &Path {
        self.rustc.as_deref().unwrap_or(Path::new("rustc"))
    }

    /// A cargo whose builds are for the guests' target and end as components.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = cargo_without_inherited_flags();
        cargo.env("CARGO_BUILD_TARGET", TRIPLE);
        cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", &self.linker);
        cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", "-Clinker-flavor=wasm-ld");
        if let Some(rustc) = &self.rustc {
            cargo.env("RUSTC", rustc);
        }
        cargo
    }
}

/// The ordinary cargo, without the settings that an outer build may have put into the environment.
fn cargo_without_inherited_flags() -> Command {
    let mut cargo = Command::new("cargo");
    for variable in [
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
    ] {
        cargo.env_remove(variable);
    }
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_spelled_out() {
        assert_eq!("debian".parse::<Route>().unwrap(), Route::Debian);
        assert_eq!("".parse::<Route>().unwrap(), Route::Auto);
        assert!("nightly".parse::<Route>().unwrap_err().to_string().contains("`nightly`"));
    }
}
