//! The clock that interrupts guests: a thread that advances the engine's epoch until its owner is dropped.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasmtime::Engine;

use crate::ComponentError;

/// Stops the thread when dropped.
pub(crate) struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    pub(crate) fn start(engine: &Engine, period: Duration) -> Result<Self, ComponentError> {
        let (stop, stopped) = mpsc::channel::<()>();
        // Weak, so that the thread never keeps the engine alive.
        let engine = engine.weak();
        let tick = move || {
            while matches!(stopped.recv_timeout(period), Err(RecvTimeoutError::Timeout)) {
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        };
        let thread = thread::Builder::new()
            .name("component-ticker".to_owned())
            .spawn(tick)
            .map_err(|error| ComponentError::Engine(format!("its ticker thread did not start: {error}")))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic, and there would be nobody to tell.
            let _ = thread.join();
        }
    }
}
