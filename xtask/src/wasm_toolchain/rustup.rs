//! The ordinary route: the target that rustup installs for the machine's own compiler.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::TRIPLE;
use crate::{console, process, progress};

/// How long rustup may take when there is another route to fall back to.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether the target is installed.
pub(crate) fn has_target() -> bool {
    process::output("list rustup's targets", Command::new("rustup").args(["target", "list", "--installed"]))
        .is_ok_and(|targets| targets.lines().any(|target| target.trim() == TRIPLE))
}

/// Installs the target unless it is there.
pub(crate) fn add_target() -> Result<()> {
    if !has_target() {
        process::run("add the guests' target", Command::new("rustup").args(["target", "add", TRIPLE]))?;
    }
    Ok(())
}

/// Tries to install the target, for a limited time; a failure is only noted.
pub(crate) fn try_to_add_target() -> bool {
    let bar = progress::waiting(&format!("asking rustup for {TRIPLE}"));
    let added = add_target_within(PATIENCE);
    bar.finish_and_clear();
    if let Err(error) = &added {
        console::note(&format!("rustup has no {TRIPLE} ({error:#}): using Debian's compiler"));
    }
    added.is_ok()
}

fn add_target_within(patience: Duration) -> Result<()> {
    let mut rustup = Command::new("rustup")
        .args(["target", "add", TRIPLE])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let began = Instant::now();
    loop {
        match rustup.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("`rustup target add` ended with {status}"),
            None if began.elapsed() > patience => {
                rustup.kill()?;
                rustup.wait()?;
                bail!("`rustup target add` took over {} s", patience.as_secs());
            }
            None => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
