//! The files of a new component's project.
//!
//! The templates are in `components/sdk`, the interfaces in `wit`; both are part of the program, and so are the interfaces in C,
//! so that a project always fits the host that made it.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use espalier_components::World;

// `FILES`: path below `components/sdk` or below `wit`, and contents; `WIT_VERSION`.
include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// `--lang`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Language {
    /// Rust, by cargo.
    Rust,
    /// Python, by componentize-py.
    Python,
    /// JavaScript, by componentize-js or componentize-qjs.
    #[value(name = "javascript")]
    JavaScript,
    /// C, by clang.
    C,
}

impl Language {
    const fn folder(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::JavaScript => "javascript",
            Self::C => "c",
        }
    }

    /// The folder of what every project has that is built by the same tool.
    const fn tool(self, world: World) -> &'static str {
        match (self, world) {
            // QuickJS does not give back what it is lent, here the traces, and the call traps (componentize-qjs 0.4.5).
            (Self::JavaScript, World::ScoringPolicy) => "starlingmonkey",
            (Self::JavaScript, _) => "quickjs",
            _ => "all",
        }
    }
}

/// The files of a project, with their paths in it.
pub(super) fn files(language: Language, world: World, name: &str) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    ensure!(
        world != World::HttpEndpoint,
        "there is no template for --world {world}, expected scoring-policy, request-router or evaluation-metric: copy \
         components/http/compare of the repository instead"
    );
    let template = format!("{}/template", language.folder());
    let places = [
        (format!("{template}/all/"), ""),
        (format!("{template}/{}/", language.tool(world)), ""),
        (format!("{template}/{world}/"), ""),
        (format!("bindings/{}/{world}/", language.folder()), "bindings/"),
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
        .replace("{{bindings}}", &world.name().replace('-', "_"))
        .replace("{{wit-version}}", WIT_VERSION)
        .replace("{{module}}", &name.replace('-', "_"))
        .replace("{{name}}", name);
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_project_is_whole_and_has_no_blanks() {
        for language in Language::value_variants() {
            let is_refused = files(*language, World::HttpEndpoint, "x").unwrap_err().to_string();
            assert!(is_refused.contains("components/http/compare"), "{is_refused}");
            for world in World::ALL.into_iter().filter(|world| *world != World::HttpEndpoint) {
                let files = files(*language, world, "my-part").unwrap();
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
        let files = files(Language::JavaScript, World::EvaluationMetric, "x").unwrap();
        let text = |name: &str| {
            let (_, contents) = files.iter().find(|(path, _)| path == Path::new(name)).unwrap();
            String::from_utf8(contents.clone()).unwrap()
        };
        assert!(text("wit/types.wit").contains(&format!("package espalier:policy@{WIT_VERSION};")));
        assert!(text("component.js").contains(&format!("\"espalier:kernels/samples@{WIT_VERSION}\"")));
    }
}
