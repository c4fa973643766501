//! Room for the result, checked before the work begins rather than found missing in the middle of it.

use std::path::{Path, PathBuf};

use crate::error::PruningError;

/// Refuses when the file system that will hold `output` has less than `needed` bytes free.
pub(crate) fn check_free_space(output: &Path, needed: u64) -> Result<(), PruningError> {
    let existing = nearest_existing(output);
    let status = rustix::fs::statvfs(&existing).map_err(|error| PruningError::File {
        action: "ask the free space of",
        path: existing.clone(),
        source: error.into(),
    })?;
    let available = status.f_bavail.saturating_mul(status.f_frsize);
    if available < needed {
        return Err(PruningError::DiskFull { path: existing, needed, available });
    }
    Ok(())
}

/// The path itself or its closest ancestor that exists.
fn nearest_existing(path: &Path) -> PathBuf {
    path.ancestors()
        .find(|ancestor| !ancestor.as_os_str().is_empty() && ancestor.exists())
        .map_or_else(|| PathBuf::from("."), Path::to_owned)
}
