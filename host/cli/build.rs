//! Makes the templates of `espalier component new` and the interfaces part of the program, as `FILES` and `WIT_VERSION`.
#![expect(clippy::expect_used, reason = "a build script that cannot read its sources must end the build")]

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository");
    let sdk = root.join("components/sdk");
    let mut code = String::from("const FILES: &[(&str, &[u8])] = &[\n");
    for (folder, name) in [
        (sdk.join("rust/template"), "rust/template"),
        (sdk.join("python/template"), "python/template"),
        (sdk.join("javascript/template"), "javascript/template"),
        (sdk.join("test-data"), "test-data"),
        (root.join("wit"), "wit"),
    ] {
        println!("cargo::rerun-if-changed={}", folder.display());
        let mut files = Vec::new();
        list(&folder, &mut files);
        files.sort();
        for file in files {
            let below = file.strip_prefix(&folder).expect("a file of the folder").display();
            writeln!(code, "    (\"{name}/{below}\", include_bytes!({file:?})),").expect("a string");
        }
    }
    let types = fs::read_to_string(root.join("wit/policy/types.wit")).expect("the interfaces");
    let package = types.lines().find_map(|line| line.strip_prefix("package espalier:policy@"));
    let version = package.and_then(|version| version.strip_suffix(';')).expect("a package with a version");
    writeln!(code, "];\nconst WIT_VERSION: &str = {version:?};").expect("a string");
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("templates.rs"), code).expect("OUT_DIR is writable");
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { list(&path, files) } else { files.push(path) }
    }
}
