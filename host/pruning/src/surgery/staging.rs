//! A temporary directory beside the output (same file system, so that the last step is a rename); removed when dropped.

use std::path::{Path, PathBuf};

use crate::error::PruningError;

pub(super) struct Staging {
    directory: tempfile::TempDir,
}

impl Staging {
    pub(super) fn beside(output: &Path) -> Result<Self, PruningError> {
        let parent = match output.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(parent).map_err(PruningError::file("create", parent))?;
        let directory = tempfile::Builder::new()
            .prefix(".espalier-surgery-")
            .tempdir_in(parent)
            .map_err(PruningError::file("create a temporary directory in", parent))?;
        Ok(Self { directory })
    }

    pub(super) fn model(&self) -> PathBuf {
        self.directory.path().join("model")
    }

    /// Gives the finished model its name and makes the name durable.
    pub(super) fn publish(self, output: &Path) -> Result<(), PruningError> {
        std::fs::rename(self.model(), output)
            .map_err(PruningError::file("rename the finished model to", output))?;
        if let Some(parent) = self.directory.path().parent() {
            let directory = std::fs::File::open(parent).map_err(PruningError::file("open", parent))?;
            directory.sync_all().map_err(PruningError::file("sync", parent))?;
        }
        Ok(())
    }
}
