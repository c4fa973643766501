//! What a run has done, on disk: `state.json`, replaced by renames.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use espalier_evaluation::Report;
use espalier_state::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::commands::commands;
use super::importance::Importance;
use crate::error::PruningError;
use crate::plan::Plan;
use crate::prune::Derivation;
use crate::recipe::{Gate, Recipe};
use crate::search::Search;

/// The file's name in the run's directory.
pub const STATE_FILE: &str = "state.json";

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Stages are left.
    Running,
    /// All stages passed their gates.
    Finished,
    /// A gate stopped it.
    Stopped,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// The program and its version.
    pub generator: String,
    /// The recipe's name.
    pub recipe: String,
    /// What it is for.
    pub about: Option<String>,
    /// See [`Recipe::digest`].
    pub recipe_sha256: Digest,
    /// The unpruned model.
    pub model: PathBuf,
    /// SHA-256 of its file, or of the names and hashes of its directory's files.
    pub model_sha256: String,
    /// Seed of everything that was drawn.
    pub seed: u64,
    /// How the run, its measurement and its result's service are begun on a terminal.
    pub commands: Vec<String>,
    /// How it stands.
    pub status: RunStatus,
    /// The stages that are finished.
    pub stages: Vec<StageRecord>,
}

/// A finished stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageRecord {
    /// Its name.
    pub name: String,
    /// Its model, relative to the run's directory.
    pub model: PathBuf,
    /// SHA-256 of the model, as the unpruned one's.
    pub model_sha256: String,
    /// What each cut removed, and why.
    pub cuts: Vec<CutRecord>,
    /// Loss of the last step of training, if the stage trains.
    pub training_loss: Option<f64>,
    /// The unpruned model's row and the stage's.
    pub evaluation: Report,
    /// What was checked.
    pub gates: Vec<GateResult>,
}

/// A cut: the plan and what led to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutRecord {
    /// What went.
    pub plan: Plan,
    /// The policy's scores in few figures.
    pub importance: Vec<Importance>,
    /// What was searched, where the stage has budgets.
    pub search: Option<Search>,
}

/// A gate and what came to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateResult {
    /// The gate.
    pub gate: Gate,
    /// The figure, or its multiple of the unpruned model's.
    pub value: f64,
    /// Whether it is within the limit.
    pub passed: bool,
}

impl CutRecord {
    pub(super) fn new(derivation: &Derivation) -> Self {
        let Derivation { plan, scores, search } = derivation;
        Self { plan: plan.clone(), importance: Importance::of(scores), search: search.clone() }
    }

    pub(super) fn read(path: &Path) -> Result<Option<Self>, PruningError> {
        read_json(path)
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>, PruningError> {
        to_json("the record of a cut", self)
    }
}

impl StageRecord {
    /// Whether all gates hold.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.gates.iter().all(|gate| gate.passed)
    }
}

impl RunRecord {
    pub(super) fn new(recipe: &Recipe, model: &Path, out: &Path) -> Result<Self, PruningError> {
        Ok(Self {
            generator: concat!("espalier ", env!("CARGO_PKG_VERSION")).to_owned(),
            recipe: recipe.name.clone(),
            about: recipe.about.clone(),
            recipe_sha256: recipe.digest,
            model: model.to_owned(),
            model_sha256: model_hash(model)?,
            seed: recipe.seed,
            commands: commands(recipe, model, out),
            status: RunStatus::Running,
            stages: Vec::new(),
        })
    }

    /// Reads the record of the run in `directory`, if there is one.
    ///
    /// # Errors
    /// A file that exists but cannot be read or parsed.
    pub fn read(directory: &Path) -> Result<Option<Self>, PruningError> {
        read_json(&directory.join(STATE_FILE))
    }

    /// The last stage that passed its gates.
    #[must_use]
    pub fn last_good(&self) -> Option<&StageRecord> {
        self.stages.iter().rfind(|stage| stage.passed())
    }

    pub(super) fn model(&self, directory: &Path) -> Option<PathBuf> {
        self.last_good().map(|stage| directory.join(&stage.model))
    }

    pub(super) fn add(&mut self, stage: StageRecord, stages: usize) {
        let passed = stage.passed();
        self.stages.push(stage);
        self.status = match (passed, self.stages.len() == stages) {
            (false, _) => RunStatus::Stopped,
            (true, true) => RunStatus::Finished,
            (true, false) => RunStatus::Running,
        };
    }

    /// The record as JSON.
    pub(super) fn to_json(&self) -> Result<Vec<u8>, PruningError> {
        to_json("the run's record", self)
    }

    pub(super) fn write(&self, directory: &Path) -> Result<(), PruningError> {
        replace(&directory.join(STATE_FILE), &self.to_json()?)
    }
}

fn to_json(what: &str, value: &impl Serialize) -> Result<Vec<u8>, PruningError> {
    let text = serde_json::to_vec_pretty(value);
    text.map_err(|source| PruningError::Json { what: what.to_owned(), source })
}

/// Nothing where there is no file.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, PruningError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(PruningError::File { action: "read", path: path.to_owned(), source }),
    };
    let parsed = serde_json::from_slice(&text);
    parsed.map(Some).map_err(|source| PruningError::Json { what: path.display().to_string(), source })
}

/// Writes a file under another name and renames it, so that it is whole at any moment.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), PruningError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let mut file = File::create(&new).map_err(PruningError::file("create", &new))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(PruningError::file("write", &new))?;
    std::fs::rename(&new, path).map_err(PruningError::file("rename a file to", path))
}

/// SHA-256 of a file, or of the sorted names and hashes of a directory's files.
pub(super) fn model_hash(model: &Path) -> Result<String, PruningError> {
    if !model.is_dir() {
        return file_hash(model);
    }
    let entries = std::fs::read_dir(model).map_err(PruningError::file("read", model))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(PruningError::file("read", model))?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    let mut hash = Sha256::new();
    for path in files {
        hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        hash.update(file_hash(&path)?);
    }
    Ok(hexadecimal(&hash.finalize()))
}

fn file_hash(path: &Path) -> Result<String, PruningError> {
    let mut file = File::open(path).map_err(PruningError::file("open", path))?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let length = file.read(&mut buffer).map_err(PruningError::file("read", path))?;
        match buffer.get(..length) {
            Some(read) if !read.is_empty() => hash.update(read),
            _ => return Ok(hexadecimal(&hash.finalize())),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
