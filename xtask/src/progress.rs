//! Progress bars, drawn on a terminal only; elsewhere one line says what began.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::console;

const BYTES: &str = "         {msg} [{bar:30}] {bytes}/{total_bytes} {eta}";
const STEPS: &str = "         {msg} [{bar:30}] {pos}/{len} {elapsed}";
const WAITING: &str = "         {spinner} {msg} {elapsed}";
const REDRAW: Duration = Duration::from_millis(120);

/// A bar for a known number of bytes.
pub(crate) fn bytes(message: &str, total: u64) -> ProgressBar {
    begin(ProgressBar::new(total), BYTES, message)
}

/// A bar for steps whose number becomes known later.
pub(crate) fn steps(message: &str) -> ProgressBar {
    begin(ProgressBar::new(0), STEPS, message)
}

/// A spinner for work whose length is unknown.
pub(crate) fn waiting(message: &str) -> ProgressBar {
    let bar = begin(ProgressBar::new_spinner(), WAITING, message);
    bar.enable_steady_tick(REDRAW);
    bar
}

fn begin(bar: ProgressBar, template: &str, message: &str) -> ProgressBar {
    if bar.is_hidden() {
        console::note(message);
    }
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.with_message(message.to_owned())
}

/// A bar that follows the size of a folder which another program fills.
pub(crate) struct FolderGrowth {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
    watcher: Option<JoinHandle<()>>,
}

impl FolderGrowth {
    /// Shows `message` and how much of `total` bytes lies under `folder`.
    pub(crate) fn watch(message: &str, folder: &Path, total: u64) -> Self {
        let bar = bytes(message, total);
        let stop = Arc::new(AtomicBool::new(false));
        let watcher = (!bar.is_hidden()).then(|| {
            let (bar, stop, folder): (_, _, PathBuf) = (bar.clone(), Arc::clone(&stop), folder.to_owned());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    bar.set_position(folder_bytes(&folder).min(total));
                    std::thread::sleep(REDRAW);
                }
            })
        });
        Self { bar, stop, watcher }
    }
}

impl Drop for FolderGrowth {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(watcher) = self.watcher.take() {
            // A watcher that died has drawn its last; there is nothing to report.
            drop(watcher.join());
        }
        self.bar.finish_and_clear();
    }
}

/// The bytes of all files below `folder`; what vanishes meanwhile counts as nothing.
fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = folder.read_dir() else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(facts) if facts.is_dir() => folder_bytes(&entry.path()),
            Ok(facts) => facts.len(),
            Err(_) => 0,
        })
        .sum()
}
