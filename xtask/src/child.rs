//! Servers that a task starts: stopped when their handle is dropped, and when this program is interrupted.

use std::io;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process;

/// The children that are running now.
static CHILDREN: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// How long a child may take to end after it was asked to; a host drains its requests in this time.
const GRACE: Duration = Duration::from_secs(10);

/// The exit status of a program that an interrupt ended.
const INTERRUPTED: i32 = 130;

/// Has an interrupt (Ctrl-C, or a request to terminate) stop all children before this program ends.
pub(crate) fn stop_children_on_interrupt() -> Result<()> {
    ctrlc::set_handler(|| {
        for child in children().iter_mut() {
            // There is nobody left to tell, and the other children must be stopped as well.
            drop(stop(child));
        }
        std::process::exit(INTERRUPTED);
    })
    .context("can't handle interrupts")
}

/// A running server, known by its process id.
pub(crate) struct Server {
    id: u32,
}

impl Server {
    /// Starts the command; `purpose` completes "can't …".
    pub(crate) fn start(purpose: &str, command: &mut Command) -> Result<Self> {
        let mut running = children();
        let child =
            command.spawn().with_context(|| format!("can't {purpose}: `{}`", process::spelled(command)))?;
        let id = child.id();
        running.push(child);
        Ok(Self { id })
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_running(&self) -> bool {
        let mut running = children();
        running.iter_mut().any(|child| child.id() == self.id && matches!(child.try_wait(), Ok(None)))
    }

    /// Waits until the server ends by itself or an interrupt ends this program.
    pub(crate) fn wait(&self) {
        while self.is_running() {
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut running = children();
        if let Some(place) = running.iter().position(|child| child.id() == self.id) {
            let mut child = running.swap_remove(place);
            if let Err(error) = stop(&mut child) {
                crate::console::note(&format!("process {} can't be stopped: {error}", self.id));
            }
        }
    }
}

/// Asks the child to end, waits, and kills it when it does not.
fn stop(child: &mut Child) -> io::Result<()> {
    if child.try_wait()?.is_some() {
        return Ok(());
    }
    if cfg!(unix) {
        process::succeeds("kill", &["-TERM", &child.id().to_string()]);
        let asked = Instant::now();
        while asked.elapsed() < GRACE {
            if child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    child.kill()?;
    child.wait().map(drop)
}

fn children() -> MutexGuard<'static, Vec<Child>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_server_has_ended() {
        let server = Server::start("sleep", Command::new("sleep").arg("60")).unwrap();
        let id = server.id.to_string();
        assert!(server.is_running());
        drop(server);
        assert!(!process::succeeds("kill", &["-0", &id]));
    }
}
