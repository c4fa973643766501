//! Settings that libraries read once, when the process starts.
//!
//! A process cannot set them for itself any more, so it starts itself again with them: same process id, arguments and streams.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// What a training process runs with, where the user has not set it.
///
/// A step allocates and frees the same large tensors again and again, which glibc would give back to the system each time.
/// candle's threads for sums wait by spinning, which costs a third of a step where other programs use the processor; the
/// products have rayon's threads and keep them.
const TRAINING: [(&str, &str); 4] = [
    ("MALLOC_MMAP_THRESHOLD_", "1000000000"),
    ("MALLOC_TRIM_THRESHOLD_", "4000000000"),
    ("MALLOC_TOP_PAD_", "100000000"),
    ("CANDLE_NUM_THREADS", "1"),
];

/// What a host runs with, of which only jobs train: it gives memory back, and leaves the processor to requests.
const SERVING: [(&str, &str); 1] = [("CANDLE_NUM_THREADS", "1")];

/// Starts the program again with the settings for training, if one of them is missing. Where that fails the process goes on
/// without: they change its speed alone.
pub(crate) fn restart_for_training() {
    restart(&TRAINING);
}

/// The same with the settings of a host.
pub(crate) fn restart_for_serving() {
    restart(&SERVING);
}

fn restart(settings: &[(&str, &str)]) {
    let missing = || settings.iter().copied().filter(|(name, _)| std::env::var_os(name).is_none());
    if missing().next().is_none() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let error = Command::new(program).args(std::env::args_os().skip(1)).envs(missing()).exec();
    tracing::warn!("the program goes on with the environment as it is: {error}");
}
