//! One signal that tells every listener, stream and job that the server is going away.
//!
//! Two steps, each final: *draining* refuses what is new and lets what is running finish; *stopped* gives up on it.

use std::sync::Arc;

use tokio::sync::watch;

/// Where the server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Takes requests.
    Serving,
    /// Takes no new requests; those in flight finish.
    Draining,
    /// Waits for nothing any more.
    Stopped,
}

/// The signal; clones see the same one.
#[derive(Clone, Debug)]
pub struct Drain {
    phase: Arc<watch::Sender<Phase>>,
}

impl Default for Drain {
    fn default() -> Self {
        Self { phase: Arc::new(watch::Sender::new(Phase::Serving)) }
    }
}

impl Drain {
    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Starts draining, if that has not begun.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Stops waiting.
    pub fn stop(&self) {
        self.advance(Phase::Stopped);
    }

    /// Resolves when draining has begun.
    pub async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Resolves when nothing is waited for any more.
    pub async fn stopped(&self) {
        self.reached(Phase::Stopped).await;
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let forward = *phase < to;
            if forward {
                *phase = to;
            }
            forward
        });
    }

    async fn reached(&self, wanted: Phase) {
        // `self` holds a sender, so the channel cannot be closed while this waits.
        let _ = self.phase.subscribe().wait_for(|phase| *phase >= wanted).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_only_go_forward_and_wake_clones() {
        let drain = Drain::default();
        let waiting = tokio::spawn({
            let drain = drain.clone();
            async move { drain.draining().await }
        });
        assert_eq!(drain.phase(), Phase::Serving);
        drain.stop();
        waiting.await.unwrap();
        drain.drain();
        assert_eq!(drain.phase(), Phase::Stopped);
        drain.stopped().await;
    }
}
