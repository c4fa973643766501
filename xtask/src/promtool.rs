//! Prometheus' own checker of metrics, which the end-to-end tests hold `/metrics` to.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::download::remove_folder;
use crate::process::{output, succeeds};
use crate::progress;
use crate::workspace::{self, Workspace};

/// The `promtool` of the machine, or Debian's, unpacked into the cache (never installed, so no server is started).
pub(crate) fn find(workspace: &Workspace) -> Result<PathBuf> {
    if succeeds("promtool", &["--version"]) {
        return Ok("promtool".into());
    }
    let promtool = workspace.cache().join("promtool/usr/bin/promtool");
    if promtool.is_file() {
        return Ok(promtool);
    }
    if !succeeds("apt-get", &["--version"]) {
        bail!("`promtool` does not run: install Prometheus (prometheus.io), which brings it");
    }
    let _lock = workspace::lock(workspace.cache())?;
    let partial = workspace.cache().join("promtool.partial");
    remove_folder(&partial)?;
    fs::create_dir_all(&partial).with_context(|| format!("can't make {}", partial.display()))?;
    let bar = progress::waiting("fetching promtool");
    let download = || {
        let mut apt = Command::new("apt-get");
        output("fetch Debian's prometheus", apt.args(["download", "-qq", "prometheus"]).current_dir(&partial))
    };
    if download().is_err() {
        // The package lists may be missing or old; if they can't be renewed, the second try says what is wrong.
        succeeds("apt-get", &["update", "-qq"]);
        download()?;
    }
    let script =
        r#"dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool && rm prometheus_*.deb"#;
    output("unpack promtool", Command::new("sh").args(["-ec", script]).current_dir(&partial))?;
    bar.finish_and_clear();
    let folder = workspace.cache().join("promtool");
    remove_folder(&folder)?;
    fs::rename(&partial, &folder).with_context(|| format!("can't put {} in place", folder.display()))?;
    Ok(promtool)
}
