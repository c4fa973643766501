//! The variants that were loaded over the admin API or by a job, recorded so that the next start of the host has them.
//!
//! What is in force decides: after every change the record of an address is made equal to the registry. Variants of the
//! command line are not recorded; they are named at every start, and there they win over a record of the same address.
//! A record whose checkpoint cannot be loaded is kept and shown, until somebody loads or unloads its address.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use espalier_engine::{EngineError, Generation, Registry, VariantSource};
use espalier_state::rusqlite::params;
use espalier_state::{State, StateError};
use serde::Serialize;

use crate::api_error::ApiError;

const TABLES: [&str; 2] = [
    "
    CREATE TABLE variants (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        model TEXT NOT NULL,
        variant TEXT NOT NULL,
        path TEXT NOT NULL,
        UNIQUE (model, variant)
    ) STRICT;
",
    "ALTER TABLE variants ADD COLUMN draft TEXT;",
];

/// Why a variant could not be loaded, unloaded or recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VariantError {
    /// The name or the checkpoint is wrong, or there is no such variant.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The state directory failed.
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<VariantError> for ApiError {
    fn from(error: VariantError) -> Self {
        match error {
            VariantError::Engine(error) => error.into(),
            VariantError::State(error) => error.into(),
        }
    }
}

/// A variant that should be loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VariantRecord {
    /// The served model.
    pub model: String,
    /// The variant's name.
    pub variant: String,
    /// The checkpoint.
    pub path: PathBuf,
    /// The checkpoint of its draft.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft: Option<PathBuf>,
}

/// A recorded variant that could not be loaded when the host started.
#[derive(Clone, Debug, Serialize)]
pub struct MissingVariant {
    /// The record.
    #[serde(flatten)]
    pub record: VariantRecord,
    /// What is wrong with its checkpoint.
    pub problem: String,
}

/// The loaded variants of a host and their records.
pub struct Variants {
    registry: Arc<Registry>,
    state: State,
    /// Also orders the changes of records.
    missing: Mutex<Vec<MissingVariant>>,
}

impl Variants {
    /// Opens the records of a state directory; nothing is loaded yet.
    ///
    /// # Errors
    /// A state directory that cannot be read or written.
    pub fn open(registry: Arc<Registry>, state: State) -> Result<Self, StateError> {
        state.migrate("variants", &TABLES)?;
        Ok(Self { registry, state, missing: Mutex::default() })
    }

    /// Loads a variant and records it. Blocks for as long as reading the checkpoint takes.
    ///
    /// # Errors
    /// Whatever is wrong with the name or the checkpoint, and nothing changes then; or a state directory that cannot be
    /// written, and the variant serves until the host ends.
    pub fn load(
        &self,
        model: &str,
        variant: &str,
        source: &VariantSource,
    ) -> Result<Arc<Generation>, VariantError> {
        let generation = self.registry.load(model, variant, source)?;
        self.record(model, variant)?;
        Ok(generation)
    }

    /// Unloads a variant and forgets it. Returns the generation that left, or nothing where there was a record alone.
    ///
    /// # Errors
    /// A variant that is neither loaded nor recorded, or a state directory that cannot be written.
    pub fn unload(&self, model: &str, variant: &str) -> Result<Option<Arc<Generation>>, VariantError> {
        let unloaded = self.registry.unload(model, variant);
        let forgotten = self.record(model, variant)?;
        match unloaded {
            Ok(generation) => Ok(Some(generation)),
            Err(_) if forgotten => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Loads every recorded variant whose address is free, in the order in which they were first recorded, for as long
    /// as `go_on` says so.
    ///
    /// # Errors
    /// A state directory that cannot be read. A checkpoint that cannot be loaded is logged and shown.
    pub fn restore(&self, go_on: impl Fn() -> bool) -> Result<(), StateError> {
        for record in self.records()? {
            let VariantRecord { model, variant, path, draft } = &record;
            if self.registry.variant(model, variant).is_ok() {
                tracing::info!(model, variant, "the command line wins over the recorded {}", path.display());
                continue;
            }
            if !go_on() {
                break;
            }
            let source = VariantSource { path: path.clone(), draft: draft.clone() };
            if let Err(error) = self.registry.load(model, variant, &source) {
                tracing::error!(model, variant, "the recorded variant is not served: {error}");
                self.missing().push(MissingVariant { record, problem: error.to_string() });
            }
        }
        Ok(())
    }

    /// The recorded variants that could not be loaded.
    pub fn not_loaded(&self) -> Vec<MissingVariant> {
        self.missing().clone()
    }

    /// Makes the record of an address what the registry has there; says whether a record went.
    fn record(&self, model: &str, variant: &str) -> Result<bool, StateError> {
        let mut missing = self.missing();
        let in_force = self.registry.variant(model, variant).ok();
        let forgotten = self.state.write(|transaction| {
            let changed = match &in_force {
                // The first position stays: it decides which variant is the default after a restart.
                Some(generation) => transaction.execute(
                    "INSERT INTO variants (model, variant, path, draft) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (model, variant) DO UPDATE SET path = ?3, draft = ?4",
                    params![
                        model,
                        variant,
                        absolute(generation.path()),
                        generation.source().draft.as_deref().map(absolute)
                    ],
                ),
                None => transaction.execute(
                    "DELETE FROM variants WHERE model = ?1 AND variant = ?2",
                    params![model, variant],
                ),
            };
            Ok::<_, StateError>(in_force.is_none() && changed? > 0)
        })?;
        missing.retain(|missing| {
            (missing.record.model.as_str(), missing.record.variant.as_str()) != (model, variant)
        });
        Ok(forgotten)
    }

    fn records(&self) -> Result<Vec<VariantRecord>, StateError> {
        self.state.with_connection(|connection| {
            let mut statement =
                connection.prepare("SELECT model, variant, path, draft FROM variants ORDER BY position")?;
            let rows = statement.query_map([], |row| {
                let (path, draft): (String, Option<String>) = (row.get(2)?, row.get(3)?);
                let (path, draft) = (path.into(), draft.map(PathBuf::from));
                Ok(VariantRecord { model: row.get(0)?, variant: row.get(1)?, path, draft })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn missing(&self) -> MutexGuard<'_, Vec<MissingVariant>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next start may have another working directory.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).as_deref().unwrap_or(path).to_string_lossy().into_owned()
}
