//! What the work of a job tells its watchers and its record, and how it learns that it is not wanted any more.

use std::time::{Duration, Instant};

use espalier_training::Cancellation;
use serde_json::Value;
use tokio::sync::broadcast;

use super::record::{Job, JobEvent, JobState, StageProgress};
use super::store::JobStore;
use crate::progress::{Phase, Progress};
use crate::staged::RunProgress;

/// How often the progress of a phase is written to disk; events are sent every time.
const STORE_INTERVAL: Duration = Duration::from_secs(1);

/// Turns reports into events and, less often, into rows.
pub struct JobReporter<'a> {
    store: &'a JobStore,
    events: &'a broadcast::Sender<JobEvent>,
    cancellation: &'a Cancellation,
    event: JobEvent,
    /// When what is being done began, and how much of it was done then.
    begun: (Instant, u64),
    stored: Instant,
}

impl<'a> JobReporter<'a> {
    pub(super) fn new(
        store: &'a JobStore,
        events: &'a broadcast::Sender<JobEvent>,
        cancellation: &'a Cancellation,
        job: &Job,
    ) -> Self {
        let event = JobEvent { state: JobState::Running, phase: None, stage: None, ..JobEvent::from(job) };
        let now = Instant::now();
        Self { store, events, cancellation, event, begun: (now, 0), stored: now }
    }

    /// Says whether the job is still wanted, without a report.
    #[must_use]
    pub const fn cancellation(&self) -> &Cancellation {
        self.cancellation
    }

    /// Reports where the run of a recipe stands; false if it is to end.
    pub fn stage(&mut self, progress: &RunProgress<'_>) -> bool {
        let activity = progress.activity;
        let stage = StageProgress::of(progress);
        let same = self.event.stage.as_ref().is_some_and(|before| before.is_like(&stage));
        if !same {
            self.begun = (Instant::now(), activity.done);
        }
        let (done, total) = (activity.done, activity.total.unwrap_or_default());
        let seconds_left = stage.seconds_left.or_else(|| self.seconds_left(done, total));
        self.event.stage = Some(StageProgress { seconds_left, ..stage });
        self.send(activity.phase, done, total, !same)
    }

    /// Keeps what there is of the job's result already; it stays if the job fails. `further` says that more of it is done
    /// than when the job was last taken up.
    pub fn result(&mut self, result: &Value, further: bool) {
        if let Err(error) = self.store.partial_result(self.event.id, result, further) {
            tracing::warn!(job = self.event.id, %error, "what a job has done could not be stored");
        }
    }

    /// At the speed since it began.
    fn seconds_left(&self, done: u64, total: u64) -> Option<f64> {
        let (begun, first) = self.begun;
        let made = done.checked_sub(first).filter(|made| *made > 0)?;
        Some(begun.elapsed().as_secs_f64() * total.checked_sub(done)? as f64 / made as f64)
    }

    fn send(&mut self, phase: Phase, done: u64, total: u64, new: bool) -> bool {
        let event = &mut self.event;
        let changed = new || event.phase != Some(phase) || done == total;
        (event.phase, event.done, event.total) = (Some(phase), done, total);
        if changed || self.stored.elapsed() >= STORE_INTERVAL {
            if let Err(error) = self.store.progress(event) {
                tracing::warn!(job = event.id, %error, "progress of a job could not be stored");
            }
            self.stored = Instant::now();
        }
        // No watcher is no failure.
        drop(self.events.send(event.clone()));
        !self.cancellation.is_cancelled()
    }
}

impl Progress for JobReporter<'_> {
    fn report(&mut self, phase: Phase, done: u64, total: u64) -> bool {
        self.send(phase, done, total, false)
    }
}
