//! A request to stop that another thread makes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::TrainingError;

/// Says whether long work is still wanted. Clones share the answer; it changes once, from yes to no.
#[derive(Clone, Debug, Default)]
pub struct Cancellation {
    cancelled: Arc<AtomicBool>,
}

impl Cancellation {
    /// Asks the work to stop.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has asked.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// [`TrainingError::Cancelled`] after `step` whole steps, if somebody has asked.
    pub(crate) fn check(&self, step: u64) -> Result<(), TrainingError> {
        if self.is_cancelled() { Err(TrainingError::Cancelled { step }) } else { Ok(()) }
    }
}
