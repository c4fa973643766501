//! `cargo xtask train-tiny`: the model that `espalier serve` serves where none is named, trained anew.
//!
//! The configuration lies beside the model in `host/cli/built-in-model`; the texts are those of the demo (public domain). The
//! run is kept in the cache, so that an interrupted one goes on. Equal code and processor give the committed bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::texts::Part;
use crate::workspace::{self, Workspace};
use crate::{build, console, download, process, texts};

/// Trains the model and puts it in the place of the committed one.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let texts = texts::fetch(workspace)?;
    build::espalier(workspace)?;
    let folder = workspace.cache().join("tiny-model");
    let _lock = workspace::lock(&folder)?;
    let home = workspace.root().join("host/cli/built-in-model");
    copy(&home.join("train.toml"), &folder.join("train.toml"))?;
    for part in [Part::Train, Part::MobyDick] {
        copy(&texts.join(part.file()), &folder.join(part.file()))?;
    }
    let run = folder.join("run");
    if run.join("model").exists() {
        download::remove_folder(&run)?;
    }
    console::step("train the tiny gpt-oss (about 25 minutes on two cores)");
    let mut train = Command::new(workspace.espalier());
    train.arg("train").arg("--config").arg(folder.join("train.toml")).arg("--out").arg(&run);
    process::run("train the tiny model", &mut train)?;
    replace(&run.join("model"), &home.join("model"))
}

/// Copies the files and says which ones are others than before.
fn replace(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("can't make the folder {}", to.display()))?;
    let mut names: Vec<PathBuf> = fs::read_dir(from)
        .with_context(|| format!("can't list {}", from.display()))?
        .map(|entry| Ok(PathBuf::from(entry?.file_name())))
        .collect::<Result<_>>()?;
    names.sort();
    for name in names {
        let (new, old) = (from.join(&name), to.join(&name));
        let same = fs::read(&old).is_ok_and(|old| fs::read(&new).is_ok_and(|new| new == old));
        console::note(&format!("{}: {}", name.display(), if same { "as committed" } else { "new" }));
        copy(&new, &old)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("can't copy {} to {}", from.display(), to.display())).map(drop)
}
