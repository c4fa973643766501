//! What a finished run says of itself, beside its model.

use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::TrainingError;

/// The file's name in the run's directory.
const FILE: &str = "training.json";

/// A run that made all its steps, however often it was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinishedTraining {
    /// Steps of the run.
    pub steps: u64,
    /// Loss of the last one, before it.
    pub last_loss: f64,
    /// Numbers that trained.
    pub trained_parameters: u64,
}

impl FinishedTraining {
    /// Of the run in `directory`.
    ///
    /// # Errors
    /// A file that cannot be read, or is none of these.
    pub fn read(directory: &Path) -> Result<Self, TrainingError> {
        let path = directory.join(FILE);
        let text = std::fs::read(&path).map_err(TrainingError::file("read", &path))?;
        serde_json::from_slice(&text).map_err(|error| {
            TrainingError::argument(path.display().to_string(), error, "steps, loss and size of a run")
        })
    }

    /// Written before the model gets its name, so that a model always has it.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), TrainingError> {
        let (path, new) = (directory.join(FILE), directory.join(".training.json.partial"));
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| TrainingError::argument("training", error, "serialisable figures"))?;
        let mut file = std::fs::File::create(&new).map_err(TrainingError::file("create", &new))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(TrainingError::file("write", &new))?;
        std::fs::rename(&new, &path).map_err(TrainingError::file("rename a file to", &path))
    }
}
