//! A job as it is stored and shown.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::request::JobRequest;
use crate::progress::Phase;

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waits for the worker.
    Queued,
    /// The worker is at it.
    Running,
    /// Done; the job has a result.
    Succeeded,
    /// Ended by an error, which the job names.
    Failed,
    /// Ended on request.
    Cancelled,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// The name in the database, in events and on the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the job is over.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// One job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Job {
    /// Its number, rising with every submission.
    pub id: u64,
    /// What was asked for.
    pub request: JobRequest,
    /// Where it is in its life.
    pub state: JobState,
    /// The phase it is in or ended in.
    pub phase: Option<Phase>,
    /// Steps of the phase that are done.
    pub done: u64,
    /// Steps of the phase.
    pub total: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// What it produced: for a prune job the sizes and the output path, for an evaluation the report.
    pub result: Option<Value>,
    /// When it was submitted, in milliseconds since 1970.
    pub created_ms: u64,
    /// When the worker took it up.
    pub started_ms: Option<u64>,
    /// When it ended.
    pub finished_ms: Option<u64>,
}

/// Something happened to a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobEvent {
    /// The job.
    pub id: u64,
    /// Its state now.
    pub state: JobState,
    /// The phase it is in.
    pub phase: Option<Phase>,
    /// Steps of the phase that are done.
    pub done: u64,
    /// Steps of the phase.
    pub total: u64,
    /// Why it failed.
    pub error: Option<String>,
}

impl From<&Job> for JobEvent {
    fn from(job: &Job) -> Self {
        Self {
            id: job.id,
            state: job.state,
            phase: job.phase,
            done: job.done,
            total: job.total,
            error: job.error.clone(),
        }
    }
}

/// How many jobs of a kind are in a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobCount {
    /// `prune` or `evaluate`.
    pub kind: String,
    /// The state.
    pub state: JobState,
    /// Their number.
    pub count: u64,
}
