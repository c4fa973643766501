//! A run in a few figures: what it began with, what came out, and how each stage measured.

use std::path::{Path, PathBuf};

use espalier_components::Measurement;
use espalier_evaluation::Row;
use espalier_state::Digest;
use serde::{Deserialize, Serialize};

use super::record::{RunRecord, RunStatus};

/// What a table of runs shows of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// How it stands.
    pub status: RunStatus,
    /// SHA-256 of the recipe's text with the texts that it names; see [`crate::Recipe::digest`].
    pub inputs_sha256: Digest,
    /// SHA-256 of the unpruned model.
    pub unpruned_sha256: String,
    /// The last model that passed its gates, if there is one.
    pub model: Option<RunModel>,
    /// The unpruned model's figures, once a stage is measured.
    pub before: Option<Figures>,
    /// The figures of the last model that passed its gates.
    pub after: Option<Figures>,
    /// The stages that are finished.
    pub stages: Vec<StageSummary>,
}

/// A model that a run made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunModel {
    /// Its directory.
    pub path: PathBuf,
    /// SHA-256 of the sorted names and hashes of its files.
    pub sha256: String,
}

/// What was measured of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Parameters.
    pub parameters: u64,
    /// Bytes of its weight files.
    pub bytes: u64,
    /// What the metrics found.
    pub measurements: Vec<Measurement>,
}

/// One finished stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageSummary {
    /// Its name.
    pub name: String,
    /// Whether its gates hold.
    pub passed: bool,
    /// What was measured of its model.
    pub figures: Option<Figures>,
}

impl RunSummary {
    /// Of a record, and of the run's directory, which the result's path begins with.
    #[must_use]
    pub fn of(record: &RunRecord, directory: &Path) -> Self {
        let good = record.last_good();
        let figures = |row: Option<&Row>| row.map(Figures::of);
        Self {
            status: record.status,
            inputs_sha256: record.recipe_sha256,
            unpruned_sha256: record.model_sha256.clone(),
            model: good.map(|stage| RunModel {
                path: directory.join(&stage.model),
                sha256: stage.model_sha256.clone(),
            }),
            before: figures(record.stages.first().and_then(|stage| stage.evaluation.baseline())),
            after: figures(good.and_then(|stage| stage.evaluation.rows.last())),
            stages: record
                .stages
                .iter()
                .map(|stage| StageSummary {
                    name: stage.name.clone(),
                    passed: stage.passed(),
                    figures: figures(stage.evaluation.rows.last()),
                })
                .collect(),
        }
    }
}

impl Figures {
    fn of(row: &Row) -> Self {
        Self { parameters: row.parameters, bytes: row.bytes_on_disk, measurements: row.measurements.clone() }
    }
}
