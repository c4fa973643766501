//! What must be on the machine before anything else: Rust, Python 3 with pip and venv, Node with npm.

use anyhow::{Result, bail};

use crate::process::succeeds;

/// The oldest compiler that builds the host, as `rust-version` in the workspace manifest says.
const MINIMUM_RUST: (u32, u32) = (1, 95);

/// The Python interpreter that every task uses outside its virtual environment.
pub(crate) const PYTHON: &str = "python3";

/// The npm client; on Windows it is a script that needs its suffix.
pub(crate) const NPM: &str = if cfg!(windows) { "npm.cmd" } else { "npm" };

/// Checks all of them and reports every absence at once, one sentence with the remedy each.
pub(crate) fn check() -> Result<()> {
    let missing: Vec<String> = [rust(), python(), node()].into_iter().flatten().collect();
    if !missing.is_empty() {
        bail!("{}", missing.join("\n       "));
    }
    Ok(())
}

fn rust() -> Option<String> {
    let (major, minor) = MINIMUM_RUST;
    let remedy = format!("install Rust {major}.{minor} or newer (`rustup update stable`, or see rustup.rs)");
    let Ok(text) =
        crate::process::output("ask rustc its version", std::process::Command::new("rustc").arg("-V"))
    else {
        return Some(format!("`rustc` does not run: {remedy}."));
    };
    match rust_version(&text) {
        Some(found) if found >= MINIMUM_RUST => None,
        _ => Some(format!("`rustc` is too old ({}): {remedy}.", text.trim())),
    }
}

/// `rustc 1.95.0 (59807616e 2026-04-14)` gives (1, 95).
fn rust_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split_whitespace().nth(1)?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn python() -> Option<String> {
    if !succeeds(PYTHON, &["-c", "import sys; sys.exit(sys.version_info < (3, 9))"]) {
        return Some(format!(
            "`{PYTHON}` (3.9 or newer) does not run: install Python 3 (Debian: `apt install python3 python3-pip python3-venv`)."
        ));
    }
    if !succeeds(PYTHON, &["-m", "pip", "--version"]) {
        return Some(format!("`{PYTHON}` has no pip: install it (Debian: `apt install python3-pip`)."));
    }
    if !succeeds(PYTHON, &["-c", "import venv, ensurepip"]) {
        return Some(format!("`{PYTHON}` has no venv: install it (Debian: `apt install python3-venv`)."));
    }
    None
}

fn node() -> Option<String> {
    if !succeeds("node", &["--version"]) {
        return Some(
            "`node` does not run: install Node.js 18 or newer (Debian: `apt install nodejs npm`).".into(),
        );
    }
    if !succeeds(NPM, &["--version"]) {
        return Some("`npm` does not run: install it beside Node.js (Debian: `apt install npm`).".into());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiler_versions_are_compared_by_number() {
        assert_eq!(rust_version("rustc 1.95.0 (59807616e 2026-04-14)"), Some((1, 95)));
        assert!(rust_version("rustc 1.100.0-nightly (abc 2027-01-01)").unwrap() > MINIMUM_RUST);
        assert_eq!(rust_version("no compiler"), None);
    }
}
