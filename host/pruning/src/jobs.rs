//! Jobs: long work that is queued, persisted, watched and cancelled.
//!
//! One worker thread runs one job at a time, oldest first; calibration and evaluation use all cores anyway. Every change
//! of state is a transaction in the state directory before it is announced. Queued jobs are taken up again when the host
//! starts again, and so is the run of a recipe that was under way, which goes on from its last checkpoint; another job that
//! was running is failed, with that reason. *How* a job is done is told by a [`JobRunner`], so that this queue can be tested
//! without a model.

mod queue;
mod recipe_job;
mod record;
mod reporter;
mod request;
mod store;

pub use self::queue::{JobRunner, Jobs};
pub use self::recipe_job::{PinnedComponent, RecipeJob, RecipeText};
pub use self::record::{Job, JobCount, JobEvent, JobState, StageProgress};
pub use self::reporter::JobReporter;
pub use self::request::{EvaluateJob, JobRequest, PruneJob};
