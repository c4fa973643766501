//! The files of a new component's project.
//!
//! The templates are in `components/sdk`, the interfaces in `wit`; both are part of the program, and so are the interfaces in C,
//! so that a project always fits the host that made it.

use std::path::PathBuf;

use anyhow::{Result, bail};
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
            // componentize-qjs 0.4.5 does not give back what a policy is lent, the traces, so that the call traps, and builds no
            // endpoint: it takes the resources of `wasi:http` for two.
            (Self::JavaScript, World::ScoringPolicy | World::HttpEndpoint) => "starlingmonkey",
            (Self::JavaScript, _) => "quickjs",
            _ => "all",
        }
    }
}

/// The files of a project, with their paths in it.
pub(super) fn files(language: Language, world: World, name: &str) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    if world == World::HttpEndpoint {
        let reason = match language {
            Language::Rust | Language::JavaScript => None,
            // The option takes away what the interpreter asks of WASI, and the world's `wasi:io/streams` with it.
            Language::Python => Some(
                "componentize-py 0.25.1 has no streams of wasi:io without the rest of WASI, which the host does not give",
            ),
            Language::C => Some("there is no template of it"),
        };
        if let Some(reason) = reason {
            bail!(
                "--lang {} has no {world}, expected rust or javascript with it: {reason}",
                language.folder()
            );
        }
    }
    let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    for (place, target) in places(language, world) {
        for (path, contents) in FILES {
            let Some(rest) = path.strip_prefix(place.as_str()) else { continue };
            let path = PathBuf::from(format!("{target}{}", hidden(rest)));
            // A template may have its own of what is for all.
            if files.iter().all(|(known, _)| *known != path) {
                files.push((path, filled(contents, world, name)?));
            }
        }
    }
    Ok(files)
}

/// Where a project's files come from, as the beginnings of paths in [`FILES`], and the folders in it that they go to.
fn places(language: Language, world: World) -> Vec<(String, &'static str)> {
    let template = format!("{}/template", language.folder());
    let mut places = vec![
        (format!("{template}/{world}/"), ""),
        (format!("{template}/{}/", language.tool(world)), ""),
        (format!("{template}/all/"), ""),
        (format!("bindings/{}/{world}/", language.folder()), "bindings/"),
        (format!("test-data/{world}/"), ""),
        ("wit/kernels/".to_owned(), "wit/deps/kernels/"),
    ];
    if world == World::HttpEndpoint {
        places.extend([
            ("wit/endpoint/".to_owned(), "wit/"),
            ("wit/policy/".to_owned(), "wit/deps/policy/"),
            ("wit/wasi/".to_owned(), "wit/deps/"),
        ]);
        if language == Language::Rust {
            // What endpoints of the repository read and write with.
            places.extend([
                ("rust/http-endpoint/request.rs".to_owned(), "src/request.rs"),
                ("rust/http-endpoint/response.rs".to_owned(), "src/response.rs"),
            ]);
        }
    } else {
        places.push(("wit/policy/".to_owned(), "wit/"));
    }
    places
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
        World::HttpEndpoint => (
            "--requests requests.json --expect expected.jsonl",
            "`requests.json` has requests, and variants of models with what they answer. Without `--expect` the responses are \
             printed\nand not compared.",
            "Goes on with a text",
            "",
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
            for world in World::ALL {
                if world == World::HttpEndpoint && matches!(language, Language::Python | Language::C) {
                    let refused = files(*language, world, "x").unwrap_err().to_string();
                    assert!(refused.contains("expected rust or javascript"), "{refused}");
                    continue;
                }
                let files = files(*language, world, "my-part").unwrap();
                let has = |name: &str| files.iter().any(|(path, _)| path == Path::new(name));
                for name in ["README.md", ".gitignore", "expected.jsonl", "wit/deps/kernels/types.wit"] {
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
