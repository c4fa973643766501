//! What makes components from Python, JavaScript and C, in the cache; of the first two the versions that the templates pin.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::download::{remove_folder, sha256_of_file};
use crate::prerequisites::PYTHON;
use crate::workspace::{self, Workspace};
use crate::{clang, console, process, progress};

/// The variables that tell the tests where the tools are. A tool that can't be installed is said and left out; so are
/// the tests that need it.
pub(crate) fn tools(workspace: &Workspace) -> Vec<(&'static str, PathBuf)> {
    let tools = [
        ("ESPALIER_TEST_COMPONENTIZE_PY", componentize_py(workspace)),
        ("ESPALIER_TEST_COMPONENTIZE_QJS", javascript(workspace, "quickjs", "componentize-qjs")),
        ("ESPALIER_TEST_COMPONENTIZE_JS", javascript(workspace, "starlingmonkey", "componentize-js")),
        ("ESPALIER_TEST_CLANG", clang::prepare(workspace)),
    ];
    let installed = tools.into_iter().filter_map(|(variable, tool)| match tool {
        Ok(tool) => Some((variable, tool)),
        Err(error) => {
            console::note(&format!("LEFT OUT, templates in this language are not tested: {error:#}"));
            None
        }
    });
    installed.collect()
}

fn componentize_py(workspace: &Workspace) -> Result<PathBuf> {
    let requirements = workspace.root().join("components/sdk/python/template/all/requirements.txt");
    let folder = workspace.cache().join("componentize-py");
    once(workspace, &requirements, &folder, |folder| {
        process::output("make a virtual environment", Command::new(PYTHON).args(["-m", "venv"]).arg(folder))?;
        let mut pip = Command::new(folder.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements);
        process::output("install componentize-py", &mut pip).map(drop)
    })?;
    Ok(folder.join("bin/componentize-py"))
}

/// The program by which the template with this engine is built.
fn javascript(workspace: &Workspace, engine: &str, program: &str) -> Result<PathBuf> {
    let package =
        workspace.root().join("components/sdk/javascript/template").join(engine).join("package.json");
    let folder = workspace.cache().join(program);
    once(workspace, &package, &folder, |folder| {
        let text =
            fs::read_to_string(&package).with_context(|| format!("can't read {}", package.display()))?;
        let file = folder.join("package.json");
        // npm takes no project whose name has blanks.
        fs::write(&file, text.replace("{{name}}", "componentizer-of-tests"))
            .with_context(|| format!("can't write {}", file.display()))?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund"]).current_dir(folder);
        process::output(&format!("install {program}"), &mut npm).map(drop)
    })?;
    Ok(folder.join("node_modules/.bin").join(program))
}

/// Installs into an empty folder unless it holds what `pinned` says.
fn once(
    workspace: &Workspace,
    pinned: &Path,
    folder: &Path,
    install: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let _lock = workspace::lock(workspace.cache())?;
    let wanted = sha256_of_file(pinned)?;
    // Written last: a folder without it is half made.
    let marker = folder.join("pinned.sha256");
    if fs::read_to_string(&marker).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    remove_folder(folder)?;
    fs::create_dir_all(folder).with_context(|| format!("can't make the folder {}", folder.display()))?;
    let bar = progress::waiting("installing a componentizer");
    install(folder)?;
    bar.finish_and_clear();
    fs::write(&marker, wanted).with_context(|| format!("can't write {}", marker.display()))
}
