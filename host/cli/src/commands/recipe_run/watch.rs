//! The progress of a run, until it ends: a bar on a terminal, lines elsewhere. A host that is started again is waited for.

use std::io::{IsTerminal as _, Write as _, stderr, stdout};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::listing::{details, place, training};
use crate::admin::{Admin, cell};
use crate::progress_bar::Bar;

/// Seconds between two lines about the same thing.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// How long a host may be away.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often it is asked whether it is there again.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows the run; an error if it failed or was cancelled.
pub(super) fn follow(admin: &Admin, id: u64) -> Result<()> {
    let mut display = Display::new();
    let mut away: Option<Instant> = None;
    loop {
        let told = admin.events(&format!("recipes/runs/{id}/events"), &mut |_, run| {
            away = None;
            display.show(run)
        });
        match (admin.get(&format!("recipes/runs/{id}")), told) {
            (Ok(run), _) if !matches!(run["state"].as_str(), Some("queued" | "running")) => break,
            // The stream ended, as a host's streams do when it is going to end.
            (Ok(_), Ok(())) => {}
            (run, told) => {
                let since = *away.get_or_insert_with(Instant::now);
                // Who never answered has not gone away.
                if !display.seen || since.elapsed() > PATIENCE {
                    return told.and(run.map(|_| ()));
                }
            }
        }
        std::thread::sleep(PAUSE);
    }
    display.bar.clear();
    let run = admin.get(&format!("recipes/runs/{id}"))?;
    admin.show(&run, |run| details(admin, run))?;
    match run["state"].as_str() {
        Some("succeeded") => Ok(()),
        Some("failed") => bail!("run {id} failed: {}", cell(&run["error"])),
        other => bail!("run {id} is {}", other.unwrap_or("in no state")),
    }
}

struct Display {
    bar: Bar,
    shown: String,
    at: Instant,
    seen: bool,
}

impl Display {
    fn new() -> Self {
        Self { bar: Bar::new(), shown: String::new(), at: Instant::now(), seen: false }
    }

    /// Shows where the run is, if that is something new or enough time has passed.
    fn show(&mut self, run: &Value) -> Result<()> {
        self.seen = true;
        let (Some(label), figures) = (place(run), training(run)) else { return Ok(()) };
        let (done, total) =
            (run["done"].as_u64().unwrap_or(0), run["total"].as_u64().filter(|total| *total > 0));
        if stderr().is_terminal() {
            match total {
                Some(total) => self.bar.show_with(&label, done, total, &figures),
                None => self.bar.show(&label, done, None),
            }
            return Ok(());
        }
        if label == self.shown && self.at.elapsed() < LINE_INTERVAL {
            return Ok(());
        }
        (self.shown, self.at) = (label.clone(), Instant::now());
        let mut line = label;
        if let Some(total) = total {
            line += &format!(" {done} of {total}");
        }
        if !figures.is_empty() {
            line += &format!(", {figures}");
        }
        if let Some(seconds) = run["stage"]["seconds_left"].as_f64() {
            line += &format!(", {seconds:.0} s left");
        }
        writeln!(stdout(), "{line}").context("standard output cannot be written")
    }
}
