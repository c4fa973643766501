//! Makes the templates of `espalier component new` and the interfaces part of the program, as `FILES` and `WIT_VERSION`.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
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
        list(&folder, &mut files)?;
        files.sort();
        for file in files {
            let below = file.strip_prefix(&folder)?.display();
            writeln!(code, "    (\"{name}/{below}\", include_bytes!({file:?})),")?;
        }
    }
    let types = fs::read_to_string(root.join("wit/policy/types.wit"))?;
    let package = types.lines().find_map(|line| line.strip_prefix("package espalier:policy@"));
    let version = package
        .and_then(|version| version.strip_suffix(';'))
        .ok_or("wit/policy/types.wit names no package espalier:policy@VERSION;")?;
    writeln!(code, "];\nconst WIT_VERSION: &str = {version:?};")?;
    let out = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set, which cargo does")?;
    Ok(fs::write(Path::new(&out).join("templates.rs"), code)?)
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { list(&path, files)? } else { files.push(path) }
    }
    Ok(())
}
