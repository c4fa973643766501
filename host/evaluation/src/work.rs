//! How far a running metric is, and whether it is to end: what its thread and the one that waits for it share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::EvaluationError;

/// Work that can be watched and cancelled from another thread.
#[derive(Debug, Default)]
pub struct Work {
    done: AtomicU64,
    cancelled: AtomicBool,
}

impl Work {
    /// Tokens scored, compared or generated so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Counts tokens.
    pub(crate) fn add(&self, tokens: usize) {
        self.done.fetch_add(tokens as u64, Ordering::Relaxed);
    }

    /// Counts from 0 again.
    pub(crate) fn restart(&self) {
        self.done.store(0, Ordering::Relaxed);
    }

    /// Lets the next step fail with [`EvaluationError::Cancelled`].
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Fails if it was cancelled.
    pub(crate) fn check(&self) -> Result<(), EvaluationError> {
        if self.is_cancelled() { Err(EvaluationError::Cancelled) } else { Ok(()) }
    }
}
