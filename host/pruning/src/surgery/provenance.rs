//! `espalier.json`: where a written model comes from, beside the model.

use std::path::Path;

use espalier_model::Checkpoint;
use serde::{Deserialize, Serialize};

use super::requantization::Requantized;
use crate::error::PruningError;
use crate::plan::{Plan, reviewable_json};
use crate::refit::RefitRecord;

/// The name of the provenance file in a model directory.
pub const PROVENANCE_FILE: &str = "espalier.json";

/// How a model was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The program and its version.
    pub generator: String,
    /// What it was made from.
    pub source: Source,
    /// What was quantised a second time, if anything was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requantized: Option<Requantized>,
    /// What was fitted anew, if anything was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refit: Option<RefitRecord>,
    /// What was done to it.
    pub plan: Plan,
}

/// The checkpoint that a model was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The file's or directory's name, without the path to it.
    pub name: String,
    /// Its file format: `GGUF` or `HF safetensors`.
    pub format: String,
    /// Bytes of its tensors as stored.
    pub tensor_bytes: u64,
}

impl Provenance {
    pub(super) fn new(
        plan: &Plan,
        checkpoint: &Checkpoint,
        requantized: Option<Requantized>,
        refit: Option<RefitRecord>,
    ) -> Self {
        let path = checkpoint.path();
        Self {
            generator: concat!("espalier ", env!("CARGO_PKG_VERSION")).to_owned(),
            source: Source {
                name: path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
                format: checkpoint.format().to_string(),
                tensor_bytes: checkpoint.tensors().map(|tensor| tensor.byte_len() as u64).sum(),
            },
            requantized,
            refit,
            plan: plan.clone(),
        }
    }

    /// Reads the provenance of the model directory `model`; absent when it was not made by this program.
    ///
    /// # Errors
    /// A file that exists but cannot be read or parsed.
    pub fn read(model: &Path) -> Result<Option<Self>, PruningError> {
        let path = model.join(PROVENANCE_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(PruningError::File { action: "read", path, source }),
        };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|source| PruningError::Json { what: path.display().to_string(), source })
    }

    pub(super) fn write(&self, model: &Path) -> Result<(), PruningError> {
        use std::io::Write as _;
        let path = model.join(PROVENANCE_FILE);
        let text = reviewable_json(self, "the provenance")?;
        let mut file = std::fs::File::create(&path).map_err(PruningError::file("create", &path))?;
        file.write_all(text.as_bytes()).map_err(PruningError::file("write", &path))?;
        file.sync_all().map_err(PruningError::file("sync", &path))
    }
}
