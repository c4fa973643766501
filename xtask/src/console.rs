//! What the tasks say to the person who runs them: step headings and notes, each with the time since the start.
//!
//! Everything goes to standard error, except a task's result (`result`), which goes to standard output.

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "this is where xtask talks to its user")]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Announces a step that may take a while.
pub(crate) fn step(text: &str) {
    eprintln!("[{:>6}] {text}", elapsed(START.elapsed()));
}

/// A detail of the step under way.
pub(crate) fn note(text: &str) {
    eprintln!("         {text}");
}

/// A task's result: the only thing that reaches standard output.
pub(crate) fn result(text: &str) {
    println!("{text}");
}

/// The one sentence that a failed task ends with, its causes joined to it.
pub(crate) fn failure(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

/// `95.2 s`, or `12m04s` from two minutes on.
pub(crate) fn elapsed(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 120 {
        format!("{:.1}s", duration.as_secs_f64())
    } else {
        format!("{}m{:02}s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!(elapsed(Duration::from_millis(9_540)), "9.5s");
        assert_eq!(elapsed(Duration::from_secs(724)), "12m04s");
    }
}
