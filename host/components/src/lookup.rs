//! Finds the files of components by name.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::ComponentError;
use crate::identity::is_name;

/// The environment variable that names a folder of components.
pub const DIRECTORY_VARIABLE: &str = "ESPALIER_COMPONENTS_DIR";

/// The file of a component: a path that ends in `.wasm` as it is, else `NAME.wasm` in the folder that
/// [`DIRECTORY_VARIABLE`] names, in `components` beside this program, or in `components` one folder up.
pub fn find_component(name_or_path: &str) -> Result<PathBuf, ComponentError> {
    if name_or_path.ends_with(".wasm") {
        return Ok(PathBuf::from(name_or_path));
    }
    in_folders(name_or_path, "a path ending in .wasm, or a name of lower-case letters, digits and hyphens")
}

/// The same by name alone: who asks a host over the network must not choose a file of its machine, which nobody deployed or
/// signed.
pub(crate) fn find_built_in(name: &str) -> Result<PathBuf, ComponentError> {
    in_folders(name, "a name of lower-case letters, digits and hyphens")
}

fn in_folders(name: &str, expected: &'static str) -> Result<PathBuf, ComponentError> {
    if !is_name(name) {
        return Err(ComponentError::InvalidName { kind: "component", found: name.to_owned(), expected });
    }
    let folders = folders();
    let file = format!("{name}.wasm");
    folders.iter().map(|folder| folder.join(&file)).find(|path| path.is_file()).ok_or_else(|| {
        let searched: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        ComponentError::FileNotFound { name: name.to_owned(), searched: searched.join(", ") }
    })
}

/// The bytes of a component's file.
pub fn read_component(path: &Path) -> Result<Vec<u8>, ComponentError> {
    fs::read(path).map_err(|source| ComponentError::File { action: "read", path: path.to_owned(), source })
}

fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = env::var_os(DIRECTORY_VARIABLE).map(PathBuf::from).into_iter().collect();
    if let Ok(program) = env::current_exe() {
        let beside = program.parent();
        folders.extend(
            [beside, beside.and_then(Path::parent)].into_iter().flatten().map(|at| at.join("components")),
        );
    }
    folders
}
