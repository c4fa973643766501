//! `espalier component new`: a folder with a component that builds, its test and its WIT.

use std::fs;
use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use espalier_components::World;

use super::project::{self, Language};

/// Options of `component new`.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The language.
    #[arg(long, value_enum)]
    lang: Language,
    /// What the component is for: scoring-policy, request-router, evaluation-metric or http-endpoint.
    #[arg(long)]
    world: World,
    /// The component's name, and the folder's: lower-case letters, digits and hyphens.
    #[arg(value_parser = name)]
    name: String,
    /// Where the folder is made.
    #[arg(long, value_name = "DIR", default_value = ".")]
    parent: PathBuf,
}

fn name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name = text.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
        && text.len() <= 64
        && text.bytes().all(allowed);
    if is_name {
        return Ok(text.to_owned());
    }
    Err(format!(
        "found \"{text}\", expected at most 64 lower-case letters, digits and hyphens, a letter first"
    ))
}

/// Runs `component new`.
pub(super) fn run(args: &Args) -> Result<()> {
    let folder = args.parent.join(&args.name);
    ensure!(folder.symlink_metadata().is_err(), "{} exists already, expected a new path", folder.display());
    let files = project::files(args.lang, args.world, &args.name)?;
    for (path, contents) in &files {
        write(&folder.join(path), contents)?;
    }
    let mut out = stdout().lock();
    writeln!(out, "{} is there; its README.md says how it is built and tested", folder.display())?;
    out.flush().context("standard output was closed")
}

fn write(path: &Path, contents: &[u8]) -> Result<()> {
    let failed = || format!("can't write {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(failed)?;
    }
    fs::write(path, contents).with_context(failed)?;
    // The linker of a Rust project is a script.
    #[cfg(unix)]
    if contents.starts_with(b"#!") {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).with_context(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_components() {
        assert_eq!(name("my-policy-2").unwrap(), "my-policy-2");
        for wrong in ["", "2nd", "My", "a_b", "../x", "-a", &"x".repeat(65)] {
            assert!(name(wrong).unwrap_err().contains(&format!("\"{wrong}\"")));
        }
    }
}
