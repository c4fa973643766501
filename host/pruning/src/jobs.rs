//! Jobs: long work that is queued, persisted, watched and cancelled.
//!
//! One worker thread runs one job at a time, oldest first; calibration and evaluation use all cores anyway. Every change
//! of state is a transaction in the state directory before it is announced. A job that was running when the host stopped
//! is failed at the next start, with that reason; queued jobs are taken up again. *How* a job is done is told by a
//! [`JobRunner`], so that this queue can be tested without a model.

mod queue;
mod record;
mod request;
mod store;

pub use self::queue::{JobRunner, Jobs};
pub use self::record::{Job, JobCount, JobEvent, JobState};
pub use self::request::{EvaluateJob, JobRequest, PruneJob};
