//! Running other programs, with an error that says what was being done and shows the end of what the program said.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// How much of a failed program's output the error carries.
const TAIL_LINES: usize = 40;

/// Runs a command whose output the user should see as it comes; `purpose` completes "can't …".
pub(crate) fn run(purpose: &str, command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| could_not_start(purpose, command))?;
    if !status.success() {
        bail!("can't {purpose}: `{}` ended with {status}", spelled(command));
    }
    Ok(())
}

/// Runs a command whose progress the user should see on standard error, and returns its standard output.
pub(crate) fn result(purpose: &str, command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| could_not_start(purpose, command))?;
    text_of_success(purpose, command, &output)
}

/// Runs a command whose output matters only when it fails, and returns its standard output.
pub(crate) fn output(purpose: &str, command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| could_not_start(purpose, command))?;
    text_of_success(purpose, command, &output)
}

/// The standard output of a command that has ended, or an error with the tail of what it said.
fn text_of_success(purpose: &str, command: &Command, output: &Output) -> Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    bail!("can't {purpose}: `{}` ended with {}\n{}", spelled(command), output.status, tail(&said));
}

/// Whether the program starts and ends with success; what it says is dropped.
pub(crate) fn succeeds<A: AsRef<OsStr>>(program: &str, arguments: &[A]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A command as a person would type it, near enough for an error message.
pub(crate) fn spelled(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

fn could_not_start(purpose: &str, command: &Command) -> String {
    format!("can't {purpose}: `{}` did not start", command.get_program().to_string_lossy())
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
}
