//! A gate that is opened once.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Closed until somebody opens it; it stays open then.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    /// Lets everybody pass from now on.
    pub(crate) fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    /// Waits for at most `patience`; says whether the gate is open.
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.opened.wait_timeout_while(open, patience, |open| !*open);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
