//! What a model takes on disk and in memory.

use std::path::Path;

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
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
