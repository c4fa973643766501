//! The queue and its worker thread.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use espalier_state::State;
use espalier_training::Cancellation;
use serde_json::Value;
use tokio::sync::broadcast;

use super::record::{Job, JobCount, JobEvent};
use super::reporter::JobReporter;
use super::request::{JobRequest, RECIPE};
use super::store::{JobStore, Outcome};
use crate::error::PruningError;

/// Events that a slow watcher may fall behind before it loses the oldest.
const EVENT_BACKLOG: usize = 1024;

/// Does the work of a job.
pub trait JobRunner: Send + Sync + 'static {
    /// Does what `job` asks for and returns what it produced. A report that is answered with false means that the job was
    /// cancelled: return any error soon.
    ///
    /// # Errors
    /// The reason why the job failed, as it is shown to the operator.
    fn run(&self, job: &Job, reporter: &mut JobReporter<'_>) -> Result<Value, Box<dyn Error + Send + Sync>>;
}

/// The jobs of a host. Clones share them.
#[derive(Clone)]
pub struct Jobs {
    shared: Arc<Shared>,
    worker: Arc<Mutex<Option<JoinHandle<()>>>>,
}

struct Shared {
    store: JobStore,
    events: broadcast::Sender<JobEvent>,
    current: Mutex<Current>,
    wake: Condvar,
    stopping: AtomicBool,
}

/// What the worker is at. The lock also orders claims against cancellations.
#[derive(Default)]
struct Current {
    job: Option<(u64, Cancellation)>,
}

impl Jobs {
    /// Opens the jobs of a state directory and starts the worker.
    ///
    /// # Errors
    /// A state directory that cannot be read, or a thread that cannot be started.
    pub fn start(state: State, runner: Arc<dyn JobRunner>) -> Result<Self, PruningError> {
        let shared = Arc::new(Shared {
            store: JobStore::open(state)?,
            events: broadcast::Sender::new(EVENT_BACKLOG),
            current: Mutex::default(),
            wake: Condvar::new(),
            stopping: AtomicBool::new(false),
        });
        let worker = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("jobs".to_owned())
                .spawn(move || shared.work(runner.as_ref()))
                .map_err(PruningError::Worker)?
        };
        Ok(Self { shared, worker: Arc::new(Mutex::new(Some(worker))) })
    }

    /// Queues a job.
    ///
    /// # Errors
    /// A failure of the state directory.
    pub fn submit(&self, request: &JobRequest) -> Result<Job, PruningError> {
        let current = self.shared.lock();
        let job = self.shared.store.insert(request)?;
        self.shared.announce(&job);
        drop(current);
        self.shared.wake.notify_all();
        Ok(job)
    }

    /// One job.
    ///
    /// # Errors
    /// [`PruningError::JobNotFound`], or a failure of the state directory.
    pub fn get(&self, id: u64) -> Result<Job, PruningError> {
        self.shared.store.get(id)
    }

    /// The newest `limit` jobs, newest first.
    ///
    /// # Errors
    /// A failure of the state directory.
    pub fn list(&self, limit: usize) -> Result<Vec<Job>, PruningError> {
        self.shared.store.list(None, limit)
    }

    /// The newest `limit` runs of recipes, newest first.
    ///
    /// # Errors
    /// A failure of the state directory.
    pub fn recipe_runs(&self, limit: usize) -> Result<Vec<Job>, PruningError> {
        self.shared.store.list(Some(RECIPE), limit)
    }

    /// How many jobs of each kind are in each state.
    ///
    /// # Errors
    /// A failure of the state directory.
    pub fn counts(&self) -> Result<Vec<JobCount>, PruningError> {
        self.shared.store.counts()
    }

    /// Ends a queued job at once, and asks a running one to end at its next report of progress.
    ///
    /// # Errors
    /// [`PruningError::JobNotFound`], [`PruningError::JobFinished`], or a failure of the state directory.
    pub fn cancel(&self, id: u64) -> Result<Job, PruningError> {
        let current = self.shared.lock();
        if let Some((running, cancelled)) = &current.job
            && *running == id
        {
            self.shared.store.request_cancel(id)?;
            cancelled.cancel();
            return self.shared.store.get(id);
        }
        let cancelled = self.shared.store.cancel_queued(id)?;
        let job = self.shared.store.get(id)?;
        if !cancelled {
            return Err(PruningError::JobFinished { id, state: job.state.name() });
        }
        self.shared.announce(&job);
        Ok(job)
    }

    /// Queues the run of a recipe again that failed or was cancelled; it goes on from its last checkpoint.
    ///
    /// # Errors
    /// [`PruningError::JobNotFound`], [`PruningError::JobNotResumable`], or a failure of the state directory.
    pub fn resume(&self, id: u64) -> Result<Job, PruningError> {
        let current = self.shared.lock();
        let resumed = self.shared.store.resume(id)?;
        let job = self.shared.store.get(id)?;
        if !resumed {
            return Err(PruningError::JobNotResumable { id, state: job.state.name() });
        }
        self.shared.announce(&job);
        drop(current);
        self.shared.wake.notify_all();
        Ok(job)
    }

    /// Events of all jobs from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<JobEvent> {
        self.shared.events.subscribe()
    }

    /// Stops the worker: the running job ends at its next report. The run of a recipe is queued for the next start, as queued
    /// jobs are; another job is failed with the reason that the host stopped. Returns when the worker is gone.
    pub fn shutdown(&self) {
        {
            let current = self.shared.lock();
            self.shared.stopping.store(true, Ordering::Relaxed);
            if let Some((_, cancelled)) = &current.job {
                cancelled.cancel();
            }
        }
        self.shared.wake.notify_all();
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The worker catches panics of a job; nothing is left to report when it has ended.
        drop(worker.map(JoinHandle::join));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, job: &Job) {
        // No watcher is no failure.
        drop(self.events.send(JobEvent::from(job)));
    }

    fn work(&self, runner: &dyn JobRunner) {
        while let Some((job, cancelled)) = self.next() {
            self.announce(&job);
            let outcome = self.run(runner, &job, &cancelled);
            let mut current = self.lock();
            match self.store.finish(job.id, outcome) {
                Ok(job) => self.announce(&job),
                Err(error) => tracing::error!(job = job.id, %error, "the end of a job could not be stored"),
            }
            current.job = None;
        }
    }

    /// Waits for a job and claims it; none when the host stops.
    fn next(&self) -> Option<(Job, Cancellation)> {
        let mut current = self.lock();
        loop {
            if self.stopping.load(Ordering::Relaxed) {
                return None;
            }
            match self.store.claim() {
                Ok(Some(job)) => {
                    let cancelled = Cancellation::default();
                    current.job = Some((job.id, cancelled.clone()));
                    return Some((job, cancelled));
                }
                Ok(None) => {
                    current = self.wake.wait(current).unwrap_or_else(PoisonError::into_inner);
                }
                Err(error) => {
                    tracing::error!(%error, "the next job could not be read");
                    let pause = Duration::from_secs(5);
                    current =
                        self.wake.wait_timeout(current, pause).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    fn run(&self, runner: &dyn JobRunner, job: &Job, cancelled: &Cancellation) -> Outcome {
        let mut reporter = JobReporter::new(&self.store, &self.events, cancelled, job);
        let result = catch_unwind(AssertUnwindSafe(|| runner.run(job, &mut reporter)));
        match result {
            Ok(Ok(result)) => Outcome::Succeeded(result),
            Ok(Err(_)) if self.stopping.load(Ordering::Relaxed) => Outcome::Interrupted,
            Ok(Err(_)) if cancelled.is_cancelled() => Outcome::Cancelled,
            Ok(Err(error)) => Outcome::Failed(error.to_string()),
            Err(_) => Outcome::Failed("the job ended by an internal error; the host's log has it".to_owned()),
        }
    }
}
