//! `cargo xtask demo`: the whole path once, on a real model.
//!
//! A host serves SmolLM2; a scoring policy is deployed into it while it runs; two prune jobs make smaller variants; they
//! are measured on text that neither calibration nor choice has seen, loaded beside the original, and asked a question.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::download::remove_folder;
use crate::host::Host;
use crate::texts::Part;
use crate::workspace::{self, Workspace};
use crate::{build, console, model, process, progress, setup, texts};

/// The served name.
const MODEL: &str = "smollm2";

/// The policy that scores heads and channels.
const POLICY: &str = "activation-norm";

/// The component that picks a variant where a request names none.
const ROUTER: &str = "least-busy";

/// The variants to make: name and share of the parameters that stays.
const VARIANTS: [(&str, f64); 2] = [("85", 0.85), ("75", 0.75)];

/// Calibration: windows of the training addresses, and tokens in each. 8,192 tokens keep a run on two cores short;
/// the figures of papers come from 128 windows or more.
const CALIBRATION_WINDOWS: u32 = 16;
const CALIBRATION_WINDOW_TOKENS: u32 = 512;

/// What every variant is asked.
const QUESTION: &str = "What does a gardener do in an orchard?";
const ANSWER_TOKENS: u32 = 40;

/// Runs the demo. With `once` it ends after the table, else it leaves the host running until it is interrupted.
pub(crate) fn run(workspace: &Workspace, once: bool) -> Result<()> {
    setup::run(workspace)?;
    build::espalier(workspace)?;
    let folder = workspace.cache().join("demo");
    let _lock = workspace::lock(&folder)?;
    let checkpoints = fresh_folders(&folder)?;

    console::step("demo: serve SmolLM2");
    let host = Host::start(workspace, &format!("{MODEL}={}", model::path(workspace).display()), &folder)?;
    console::note(&format!("OpenAI API and UI at {}, admin API at {}", host.public(), host.admin()));

    for component in [POLICY, ROUTER] {
        console::step(&format!("demo: deploy the component {component} into the running host"));
        host.command("deploy a component", &["component", "deploy", component])?;
    }

    let mut pruned = Vec::new();
    for (variant, keep) in VARIANTS {
        console::step(&format!("demo: prune to {variant} % of the parameters"));
        let out = checkpoints.join(variant);
        prune(workspace, &host, keep, &out)?;
        pruned.push(out);
    }

    console::step("demo: export the unpruned model to bf16, the format of the pruned ones, as the baseline");
    let baseline = checkpoints.join("original-bf16");
    let mut export = Command::new(workspace.espalier());
    export
        .args(["export", "--model"])
        .arg(model::path(workspace))
        .args(["--format", "hf", "--dtype", "bf16", "--out"])
        .arg(&baseline);
    process::output("export the unpruned model", &mut export)?;

    console::step("demo: evaluate on held-out State of the Union addresses");
    let report = folder.join("report.html");
    let table = evaluate(workspace, &baseline, &pruned, &report)?;

    console::step("demo: load the pruned models as variants and ask each");
    for ((variant, _), path) in VARIANTS.iter().zip(&pruned) {
        let address = format!("{MODEL}@{variant}={}", path.display());
        host.command("load a variant", &["model", "load", &address])?;
    }
    console::note(&format!("question: {QUESTION}"));
    let variants = ["original"].into_iter().chain(VARIANTS.iter().map(|(variant, _)| *variant));
    for address in variants.map(|variant| format!("{MODEL}@{variant}")).chain([MODEL.to_owned()]) {
        ask(&host, &address)?;
    }

    console::result(&format!("\n{}", table.trim_end()));
    console::result(&format!("\nreport     {}", report.display()));
    console::result(&format!("chat       {}/", host.public()));
    console::result(&format!("API        {}/v1", host.public()));
    console::result(&format!("metrics    {}/metrics", host.public()));
    console::result(&format!("admin API  {}/admin/v1", host.admin()));
    if once {
        console::step("demo: done");
    } else {
        console::step("demo: the host is running; Ctrl-C stops it");
        host.wait();
        bail!("the host ended by itself; its log is {}", folder.join("host.log").display());
    }
    Ok(())
}

/// Clears what an earlier demo left, so that the state and every checkpoint are of this run; returns the checkpoints'.
fn fresh_folders(folder: &Path) -> Result<PathBuf> {
    let (state, checkpoints) = (folder.join("state"), folder.join("checkpoints"));
    for part in [&state, &checkpoints] {
        remove_folder(part)?;
        fs::create_dir_all(part).with_context(|| format!("can't make the folder {}", part.display()))?;
    }
    Ok(checkpoints)
}

/// Runs a prune job over the admin API and shows its progress.
fn prune(workspace: &Workspace, host: &Host, keep: f64, out: &Path) -> Result<()> {
    let jobs = format!("{}/admin/v1/jobs", host.admin());
    let request = json!({
        "kind": "prune",
        "model": MODEL,
        "variant": "original",
        "policy": POLICY,
        "units": ["head", "ffn-channel"],
        "keep": keep,
        "calibration": texts::folder(workspace).join(Part::Train.file()),
        "windows": CALIBRATION_WINDOWS,
        "window_tokens": CALIBRATION_WINDOW_TOKENS,
        "out": out,
    });
    let job = host.post(&jobs, &request)?;
    let Some(id) = job["id"].as_u64() else { bail!("the new job has no id: {job}") };
    let bar = progress::steps("queued");
    loop {
        let job = host.get(&format!("{jobs}/{id}"))?;
        match job["state"].as_str() {
            Some("queued" | "running") => show(&bar, &job),
            Some("succeeded") => {
                bar.finish_and_clear();
                return Ok(());
            }
            _ => bail!("prune job {id} ended as {}: {}", job["state"], job["error"]),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn show(bar: &ProgressBar, job: &Value) {
    if let (Some(phase), Some(done), Some(total)) =
        (job["phase"].as_str(), job["done"].as_u64(), job["total"].as_u64())
    {
        bar.set_message(phase.to_owned());
        bar.set_length(total);
        bar.set_position(done);
    }
}

/// Measures the served file and the pruned models beside the baseline of their own format; returns the table.
fn evaluate(workspace: &Workspace, baseline: &Path, pruned: &[PathBuf], report: &Path) -> Result<String> {
    let mut evaluate = Command::new(workspace.espalier());
    evaluate.arg("evaluate").arg("--baseline").arg(baseline).arg("--model");
    evaluate.args(pruned).arg(model::path(workspace));
    evaluate.args(["--metrics", "perplexity,agreement", "--data"]);
    evaluate.arg(texts::folder(workspace).join(Part::TestExcerpt.file())).arg("--report").arg(report);
    process::result("evaluate the models", &mut evaluate)
}

/// Asks one question and shows which variant answered what.
fn ask(host: &Host, address: &str) -> Result<()> {
    let request = json!({
        "model": address,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": ANSWER_TOKENS,
        "temperature": 0,
    });
    let answer = host.post(&format!("{}/v1/chat/completions", host.public()), &request)?;
    let Some(text) = answer["choices"][0]["message"]["content"].as_str() else {
        bail!("the answer of {address} has no text: {answer}");
    };
    let (variant, generation) = (&answer["espalier"]["variant"], &answer["espalier"]["generation"]);
    let Some(variant) = variant.as_str() else { bail!("the answer of {address} names no variant: {answer}") };
    console::note(&format!(
        "{address:<17} answered by {variant} (generation {generation}): {}",
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    ));
    Ok(())
}
