//! The built program and what else `cargo xtask` has prepared for the tests.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// `target/release`, in which this test program's own folder lies.
fn build_folder() -> PathBuf {
    let test = env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().to_path_buf()
}

/// The program under test.
pub(crate) fn espalier() -> PathBuf {
    let program = build_folder().join("espalier");
    assert!(
        program.is_file(),
        "{} is not built: run `cargo build --release -p espalier-cli` or `cargo xtask test`",
        program.display()
    );
    program
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(espalier()).args(arguments).output().unwrap()
}

/// A built guest component.
pub(crate) fn component(name: &str) -> PathBuf {
    let folder = match env::var_os("ESPALIER_COMPONENTS_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => build_folder().parent().unwrap().join("components"),
    };
    let component = folder.join(format!("{name}.wasm"));
    assert!(component.is_file(), "{} is not built: run `cargo xtask guests`", component.display());
    component
}

/// A program that `cargo xtask test` names in a variable; nothing, said aloud, when the tests are run by hand.
pub(crate) fn named_by(variable: &str) -> Option<PathBuf> {
    let program = env::var_os(variable).map(PathBuf::from);
    if program.is_none() {
        eprintln!("left out: {variable} is not set (`cargo xtask test` sets it)");
    }
    program
}

/// Whether `cargo xtask test` runs the tests, so that whatever is missing is a failure.
pub(crate) fn is_complete_run() -> bool {
    env::var_os("ESPALIER_TEST_PYTHON").is_some()
}
