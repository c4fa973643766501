//! Makes the templates of `espalier component new` and the interfaces, in WIT and in C, part of the program, as `FILES` and
//! `WIT_VERSION`.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use wit_bindgen_core::{Files, wit_parser::Resolve};

/// The worlds that components are written for in C.
const WORLDS_IN_C: [&str; 3] = ["scoring-policy", "request-router", "evaluation-metric"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let sdk = root.join("components/sdk");
    let mut code = String::from("const FILES: &[(&str, &[u8])] = &[\n");
    let out = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set, which cargo does")?;
    let bindings = Path::new(&out).join("bindings");
    for world in WORLDS_IN_C {
        bind_in_c(&root.join("wit"), world, &bindings.join("c").join(world))?;
    }
    for (folder, name) in [
        (bindings, "bindings"),
        (sdk.join("c/template"), "c/template"),
        (sdk.join("rust/template"), "rust/template"),
        (sdk.join("rust/http-endpoint/src"), "rust/http-endpoint"),
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
    Ok(fs::write(Path::new(&out).join("templates.rs"), code)?)
}

/// Writes a world in C: a header, the code behind it, and an object file by which a linked module knows its world.
fn bind_in_c(wit: &Path, world: &str, folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut resolve = Resolve::default();
    resolve.push_path(wit.join("kernels"))?;
    let (policy, _) = resolve.push_path(wit.join("policy"))?;
    let world = resolve.select_world(&[policy], Some(world))?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default().build().generate(&mut resolve, world, &mut files)?;
    fs::create_dir_all(folder)?;
    for (name, contents) in files.iter() {
        fs::write(folder.join(name), contents)?;
    }
    Ok(())
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { list(&path, files)? } else { files.push(path) }
    }
    Ok(())
}
