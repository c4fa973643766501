//! What a model takes on disk and in memory.

use std::path::Path;

use serde::Serialize;

use crate::error::EvaluationError;

/// Bytes of the weight files at `path`: the GGUF file, or all safetensors files of a directory.
///
/// # Errors
/// A path that cannot be read.
pub fn bytes_on_disk(path: &Path) -> Result<u64, EvaluationError> {
    let facts = std::fs::metadata(path).map_err(EvaluationError::file("read", path))?;
    if !facts.is_dir() {
        return Ok(facts.len());
    }
    let mut total = 0;
    for entry in std::fs::read_dir(path).map_err(EvaluationError::file("list", path))? {
        let file = entry.map_err(EvaluationError::file("list", path))?.path();
        if file.extension().is_some_and(|extension| extension == "safetensors") {
            total += std::fs::metadata(&file).map_err(EvaluationError::file("read", &file))?.len();
        }
    }
    Ok(total)
}

/// Bytes of this process that are in physical memory, mapped files included; none where the system does not say.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    residency().map(|resident| resident.anonymous + resident.file)
}

/// What this process has in physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Residency {
    /// Bytes of its own memory.
    pub anonymous: u64,
    /// Bytes of mapped files, which the system may drop and read again.
    pub file: u64,
    /// The most that both together have been.
    pub peak: u64,
}

/// What this process has in physical memory; none where the system does not say.
#[must_use]
pub fn residency() -> Option<Residency> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    };
    Some(Residency { anonymous: bytes("RssAnon:")?, file: bytes("RssFile:")?, peak: bytes("VmHWM:")? })
}
