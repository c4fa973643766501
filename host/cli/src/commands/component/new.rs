//! `espalier component new`: a folder with a component that builds, its test and its WIT.
//!
//! The templates are in `components/sdk`, the interfaces in `wit`; both are part of the program, so that a project always fits
//! the host that made it.

use std::fs;
use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use espalier_components::World;

// `FILES`: path below `components/sdk` or below `wit`, and contents; `WIT_VERSION`.
include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// Options of `component new`.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The language.
    #[arg(long, value_enum)]
    lang: Language,
    /// What the component is for: scoring-policy, request-router or evaluation-metric.
    #[arg(long)]
    world: World,
    /// The component's name, and the folder's: lower-case letters, digits and hyphens.
    #[arg(value_parser = name)]
    name: String,
    /// Where the folder is made.
    #[arg(long, value_name = "DIR", default_value = ".")]
    parent: PathBuf,
}

/// `--lang`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Language {
    /// Rust, by cargo.
    Rust,
    /// Python, by componentize-py.
    Python,
    /// JavaScript, by componentize-qjs.
    #[value(name = "javascript")]
    JavaScript,
}

impl Language {
    const fn folder(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::JavaScript => "javascript",
        }
    }
}

fn name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name = text.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
        && text.len() <= 64
        && text.bytes().all(allowed);
    if is_name {
        return Ok(text.to_owned());
    }
    Err(format!(
        "found \"{text}\", expected at most 64 lower-case letters, digits and hyphens, a letter first"
    ))
}

/// Runs `component new`.
pub(super) fn run(args: &Args) -> Result<()> {
    let folder = args.parent.join(&args.name);
    ensure!(folder.symlink_metadata().is_err(), "{} exists already, expected a new path", folder.display());
    let files = project(args.lang, args.world, &args.name)?;
    for (path, contents) in &files {
        write(&folder.join(path), contents)?;
    }
    let mut out = stdout().lock();
    writeln!(out, "{} is there; its README.md says how it is built and tested", folder.display())?;
    out.flush().context("standard output was closed")
}

/// The files of a project, with their paths in it.
fn project(language: Language, world: World, name: &str) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    // componentize-qjs 0.4.5 does not give back a resource that it is lent, here the traces, and the call traps.
    ensure!(
        (language, world) != (Language::JavaScript, World::ScoringPolicy),
        "--lang javascript has no {world}, expected request-router or evaluation-metric with it, or rust or python: \
         the traces that a policy is lent cannot be given back from JavaScript yet"
    );
    ensure!(
        world != World::HttpEndpoint,
        "there is no template for --world {world}, expected scoring-policy, request-router or evaluation-metric: copy \
         components/http/compare of the repository instead"
    );
    let template = format!("{}/template", language.folder());
    let places = [
        (format!("{template}/all/"), ""),
        (format!("{template}/{world}/"), ""),
        (format!("test-data/{world}/"), ""),
        ("wit/policy/".to_owned(), "wit/"),
        ("wit/kernels/".to_owned(), "wit/deps/kernels/"),
    ];
    let mut files = Vec::new();
    for (place, target) in &places {
        for (path, contents) in FILES {
            let Some(rest) = path.strip_prefix(place.as_str()) else { continue };
            files.push((PathBuf::from(format!("{target}{}", hidden(rest))), filled(contents, world, name)?));
        }
    }
    Ok(files)
}

/// Names that begin with a dot lie without it in the repository, where they would have their effect.
fn hidden(path: &str) -> String {
    if path.starts_with("cargo/") || path == "gitignore" { format!(".{path}") } else { path.to_owned() }
}

/// A file with its blanks filled in; what is not text stays as it is.
fn filled(contents: &[u8], world: World, name: &str) -> Result<Vec<u8>> {
    let Ok(text) = std::str::from_utf8(contents) else { return Ok(contents.to_vec()) };
    let (test_options, test_words, summary, python_files) = match world {
        World::ScoringPolicy => (
            "--traces traces.safetensors --expect expected.jsonl",
            "`traces.safetensors` is what two sequences of text leave in the layers of a tiny model; `espalier component \
             record`\nmakes such a file of any other. Without `--expect` the scores are printed and not compared.",
            "Norm of the mean activation of heads",
            "scoring.py` and `app.py",
        ),
        World::RequestRouter => (
            "--requests requests.json --expect expected.jsonl",
            "`requests.json` has requests with the variants at that moment. Without `--expect` the choices are printed and \
             not\ncompared.",
            "The variant with the fewest requests answers",
            "app.py",
        ),
        World::EvaluationMetric => (
            "--samples samples.jsonl --expect expected.jsonl",
            "`samples.jsonl` has prompts with references and the answers to measure. Without `--expect` the figures are \
             printed and\nnot compared.",
            "The share of answers that are one of their references",
            "app.py",
        ),
        world => bail!("there is no template for the world {world}"),
    };
    let text = text
        .replace("{{test-options}}", test_options)
        .replace("{{test-words}}", test_words)
        .replace("{{summary}}", summary)
        .replace("{{python-files}}", python_files)
        .replace("{{world}}", world.name())
        .replace("{{wit-version}}", WIT_VERSION)
        .replace("{{module}}", &name.replace('-', "_"))
        .replace("{{name}}", name);
    Ok(text.into_bytes())
}

fn write(path: &Path, contents: &[u8]) -> Result<()> {
    let failed = || format!("can't write {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(failed)?;
    }
    fs::write(path, contents).with_context(failed)?;
    // The linker of a Rust project is a script.
    #[cfg(unix)]
    if contents.starts_with(b"#!") {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).with_context(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_project_is_whole_and_has_no_blanks() {
        for language in Language::value_variants() {
            let is_refused = project(*language, World::HttpEndpoint, "x").unwrap_err().to_string();
            assert!(is_refused.contains("components/http/compare"), "{is_refused}");
            for world in World::ALL.into_iter().filter(|world| *world != World::HttpEndpoint) {
                if (*language, world) == (Language::JavaScript, World::ScoringPolicy) {
                    assert!(
                        project(*language, world, "x").unwrap_err().to_string().contains("rust or python")
                    );
                    continue;
                }
                let files = project(*language, world, "my-part").unwrap();
                let has = |name: &str| files.iter().any(|(path, _)| path == Path::new(name));
                for name in [
                    "README.md",
                    ".gitignore",
                    "expected.jsonl",
                    "wit/types.wit",
                    "wit/deps/kernels/types.wit",
                ] {
                    assert!(has(name), "{language:?} {world}: {name}");
                }
                for (path, contents) in &files {
                    // Recorded traces are no text.
                    let Ok(text) = std::str::from_utf8(contents) else { continue };
                    assert!(!text.contains("{{"), "{language:?} {world}: {} has a blank", path.display());
                }
            }
        }
    }

    #[test]
    fn the_version_is_that_of_the_interfaces() {
        let files = project(Language::JavaScript, World::EvaluationMetric, "x").unwrap();
        let text = |name: &str| {
            let (_, contents) = files.iter().find(|(path, _)| path == Path::new(name)).unwrap();
            String::from_utf8(contents.clone()).unwrap()
        };
        assert!(text("wit/types.wit").contains(&format!("package espalier:policy@{WIT_VERSION};")));
        assert!(text("component.js").contains(&format!("\"espalier:kernels/samples@{WIT_VERSION}\"")));
    }

    #[test]
    fn names_are_those_of_components() {
        assert_eq!(name("my-policy-2").unwrap(), "my-policy-2");
        for wrong in ["", "2nd", "My", "a_b", "../x", "-a", &"x".repeat(65)] {
            assert!(name(wrong).unwrap_err().contains(&format!("\"{wrong}\"")));
        }
    }
}
