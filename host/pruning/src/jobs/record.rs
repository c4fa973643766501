//! A job as it is stored and shown.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::request::JobRequest;
use crate::progress::Phase;
use crate::staged::RunProgress;

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
    /// Where the run of a recipe is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageProgress>,
    /// Why it failed.
    pub error: Option<String>,
    /// What it produced: for a prune job the sizes and the output path, for an evaluation the report, for the run of a
    /// recipe its summary, which is there before the run has ended and where it failed.
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
    /// Where the run of a recipe is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageProgress>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Where the run of a recipe is; how much of what it is doing is done, the job's own fields say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageProgress {
    /// The stage, counted from 1.
    pub number: usize,
    /// Of so many.
    pub stages: usize,
    /// Its name.
    pub name: String,
    /// Which of the stage's cuts it is at, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<usize>,
    /// Of so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuts: Option<usize>,
    /// What it is doing: the phase, and the metric where one measures.
    pub activity: String,
    /// Loss of the last step, while it trains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Tokens trained on per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
    /// Seconds until the activity is over, at its speed so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<f64>,
}

impl StageProgress {
    pub(super) fn of(progress: &RunProgress<'_>) -> Self {
        let RunProgress { number, stages, stage, activity } = *progress;
        Self {
            number,
            stages,
            name: stage.to_owned(),
            cut: activity.cut.map(|(number, _)| number),
            cuts: activity.cut.map(|(_, cuts)| cuts),
            activity: activity.what.to_owned(),
            loss: activity.training.map(|training| training.loss),
            tokens_per_second: activity.training.map(|training| training.tokens_per_second),
            seconds_left: activity.training.map(|training| training.seconds_left),
        }
    }

    /// Whether the same thing is being done.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (self.number, self.cut, &self.activity) == (other.number, other.cut, &other.activity)
    }
}

impl From<&Job> for JobEvent {
    fn from(job: &Job) -> Self {
        Self {
            id: job.id,
            state: job.state,
            phase: job.phase,
            done: job.done,
            total: job.total,
            stage: job.stage.clone(),
            error: job.error.clone(),
        }
    }
}

/// How many jobs of a kind are in a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobCount {
    /// `prune`, `evaluate` or `recipe`.
    pub kind: String,
    /// The state.
    pub state: JobState,
    /// Their number.
    pub count: u64,
}
