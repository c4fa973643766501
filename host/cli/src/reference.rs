//! The command line reference `docs/cli.md`, rendered from the definitions themselves.
//!
//! The test fails when the page and the program differ; `ESPALIER_UPDATE_DOCS=1 cargo test -p espalier-cli` rewrites it.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, ArgAction, Command, CommandFactory};

use crate::Cli;

fn render() -> String {
    let mut page = String::from(
        "# Command line\n\nErrors go to standard error as one sentence; the exit status is 1 for a failure and 2 for \
         wrong usage. The environment variable `RUST_LOG` sets what is logged (`info` by default).\n",
    );
    for command in Cli::command().get_subcommands() {
        section(&mut page, "espalier", command);
    }
    page
}

fn section(page: &mut String, parent: &str, command: &Command) {
    let name = format!("{parent} {}", command.get_name());
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut children = command.get_subcommands().filter(|child| child.get_name() != "help").peekable();
    if children.peek().is_none() {
        write!(page, "\n## `{name}`\n\n{about}\n\n| option | meaning | default |\n| --- | --- | --- |\n")
            .unwrap();
        for argument in command.get_arguments().filter(|argument| argument.get_id() != "help") {
            row(page, argument);
        }
    }
    for child in children {
        section(page, &name, child);
    }
}

fn row(page: &mut String, argument: &Arg) {
    let value = match argument.get_action() {
        ArgAction::Set | ArgAction::Append => {
            let names = argument.get_value_names().unwrap_or_default();
            names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    };
    let spelling = match argument.get_long() {
        Some(long) => format!("--{long} {value}").trim_end().to_owned(),
        None => value,
    };
    let mut meaning = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let choices = argument.get_possible_values();
    if !choices.is_empty() && argument.get_action().takes_values() {
        let names: Vec<_> = choices.iter().map(|choice| format!("`{}`", choice.get_name())).collect();
        write!(meaning, " ({})", names.join(", ")).unwrap();
    }
    let default: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default =
        match (default.is_empty() || !argument.get_action().takes_values(), argument.is_required_set()) {
            (_, true) => "required".to_owned(),
            (true, false) => String::new(),
            (false, false) => format!("`{}`", default.join(" ")),
        };
    writeln!(page, "| `{spelling}` | {} | {default} |", meaning.replace('|', "\\|").replace('\n', " "))
        .unwrap();
}

#[test]
fn the_committed_page_is_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let rendered = render();
    if std::env::var_os("ESPALIER_UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &rendered).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == rendered,
        "docs/cli.md differs: run ESPALIER_UPDATE_DOCS=1 cargo test -p espalier-cli"
    );
}
