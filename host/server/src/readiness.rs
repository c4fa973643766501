//! Whether the server takes requests, and why not. It can become ready, stop being so, and become ready again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::drain::{Drain, Phase};

/// Counts what has to finish before the server is ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    pending: Arc<AtomicUsize>,
}

/// Keeps the server from being ready until it is dropped.
#[derive(Debug)]
pub struct Latch {
    pending: Arc<AtomicUsize>,
}

impl Readiness {
    /// Holds readiness back.
    #[must_use]
    pub fn latch(&self) -> Latch {
        self.pending.fetch_add(1, Ordering::AcqRel);
        Latch { pending: Arc::clone(&self.pending) }
    }

    /// Why the server is not ready; nothing if it is.
    #[must_use]
    pub fn reasons(&self, drain: &Drain, models: usize) -> Vec<String> {
        let mut reasons = Vec::new();
        if drain.phase() != Phase::Serving {
            reasons.push("the server is draining".to_owned());
        }
        let pending = self.pending.load(Ordering::Acquire);
        if pending > 0 {
            reasons.push("models are still loading".to_owned());
        } else if models == 0 {
            reasons.push("no model is loaded".to_owned());
        }
        reasons
    }
}

impl Drop for Latch {
    fn drop(&mut self) {
        self.pending.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_goes_both_ways() {
        let (readiness, drain) = (Readiness::default(), Drain::default());
        assert_eq!(readiness.reasons(&drain, 0), ["no model is loaded"]);
        let latch = readiness.latch();
        assert_eq!(readiness.reasons(&drain, 1).len(), 1);
        drop(latch);
        assert!(readiness.reasons(&drain, 1).is_empty());
        drain.drain();
        assert_eq!(readiness.reasons(&drain, 1), ["the server is draining"]);
    }
}
