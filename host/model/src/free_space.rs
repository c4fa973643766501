//! Whether a model fits on the disk, asked before an hour of writing.

use std::path::Path;

use crate::error::ModelError;

/// Fails if the file system of `path`, or of its nearest ancestor that exists, has fewer than `bytes` bytes free. A
/// file system that doesn't say passes: the write itself will tell.
pub(crate) fn require(path: &Path, bytes: u64) -> Result<(), ModelError> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("."));
    let Ok(facts) = rustix::fs::statvfs(existing) else { return Ok(()) };
    let free = facts.f_bavail.saturating_mul(facts.f_frsize);
    if free < bytes {
        let what = format!("free space for {}", path.display());
        return Err(ModelError::argument(what, format!("{free} bytes"), format!("at least {bytes} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_fit_is_refused_before_anything_is_written() {
        let path = std::env::temp_dir().join("absent").join("model");
        assert!(require(&path, 1).is_ok());
        let message = require(&path, u64::MAX).unwrap_err().to_string();
        assert!(message.contains("absent/model") && message.contains(&u64::MAX.to_string()), "{message}");
    }
}
