//! Copies of requests for a variant on trial: computed, counted, and thrown away.
//!
//! The client's own request is under way before a copy begins, and nothing waits for one. A copy goes last in its queue;
//! none begins, and one that runs is given up, while requests of the model wait. What it cannot avoid is to compute on the
//! same machine.

use std::sync::Arc;
use std::time::Duration;

use espalier_engine::Generation;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};

use crate::api_error::{ApiError, ErrorKind};
use crate::application::Application;
use crate::openai::delta::Delta;
use crate::openai::frames::Choice;

/// Copies that are computed at once.
pub const SHADOWS: usize = 4;
/// How often a running copy looks whether requests wait.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A request that is under way, and who gets a copy of it.
pub struct Copied {
    /// Who gets the copy.
    pub target: Arc<Generation>,
    /// Who answers.
    pub answering: Arc<Generation>,
    /// In how many sequences.
    pub sequences: usize,
}

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was computed to its end.
    Finished,
    /// It made way for requests, or never began for them.
    Dropped,
    /// The variant could not compute it.
    Failed,
}

impl Outcome {
    /// For metric labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }
}

/// Computes a copy in a task of its own. `start` submits it and may block.
pub fn cast(
    application: &Arc<Application>,
    copied: Copied,
    start: impl FnOnce(&Generation) -> Result<Vec<Choice>, ApiError> + Send + 'static,
) {
    let application = Arc::clone(application);
    let permit = Arc::clone(application.shadows()).try_acquire_owned();
    tokio::spawn(async move {
        let outcome = match &permit {
            Ok(_) => compute(&application, &copied, start).await,
            Err(_) => Outcome::Dropped,
        };
        let id = copied.target.id();
        application.metrics().shadowed(&id.model, &id.variant, outcome);
    });
}

/// Room for copies.
#[must_use]
pub fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(SHADOWS))
}

async fn compute(
    application: &Arc<Application>,
    copied: &Copied,
    start: impl FnOnce(&Generation) -> Result<Vec<Choice>, ApiError> + Send + 'static,
) -> Outcome {
    if copied.others_wait(application, 0) {
        return Outcome::Dropped;
    }
    let started = Arc::clone(&copied.target);
    let mut left = match application.blocking(move || start(&started)).await {
        Ok(choices) => choices,
        Err(error) if matches!(error.kind(), ErrorKind::QueueFull | ErrorKind::Unavailable) => {
            return Outcome::Dropped;
        }
        Err(error) => {
            tracing::warn!(%error, generation = %copied.target.id(), "a copy of a request could not be computed");
            return Outcome::Failed;
        }
    };
    while let Some(choice) = left.pop() {
        let outcome = read(application, copied, choice, left.len()).await;
        if outcome != Outcome::Finished {
            return outcome;
        }
    }
    Outcome::Finished
}

/// Reads a choice to its end while `behind` others of the same copy run or wait.
async fn read(application: &Application, copied: &Copied, choice: Choice, behind: usize) -> Outcome {
    let Choice { mut stream, mut reader, satisfied, .. } = choice;
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut has_begun = false;
    loop {
        let event = tokio::select! {
            event = stream.recv() => event,
            () = application.drain().draining() => return Outcome::Dropped,
            _ = look.tick() => {
                if copied.others_wait(application, behind + usize::from(!has_begun)) {
                    return Outcome::Dropped;
                }
                continue;
            }
        };
        has_begun = true;
        let Some(Ok(deltas)) = event.map(|event| reader.take(event)) else { return Outcome::Failed };
        if let Some(Delta::Finished(_)) = deltas.last() {
            satisfied.set();
            return Outcome::Finished;
        }
    }
}

impl Copied {
    /// Whether requests wait for any variant of the model, other than this one and `own` sequences of its copy.
    fn others_wait(&self, application: &Application, own: usize) -> bool {
        let Ok(variants) = application.registry().variants(&self.target.id().model) else { return true };
        variants.iter().any(|variant| {
            let is_target = Arc::ptr_eq(variant, &self.target);
            let of_request = if Arc::ptr_eq(variant, &self.answering) { self.sequences } else { 0 };
            variant.engine().status().waiting > of_request + if is_target { own } else { 0 }
        })
    }
}
