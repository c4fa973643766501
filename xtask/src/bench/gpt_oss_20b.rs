//! The table of GPT-OSS 20B → 15B → 12B: what each way of cutting costs and gains in size, memory and speed.
//!
//! The weights are random (`espalier synth`), which changes neither sizes nor the work of a forward pass; what the cuts
//! cost in quality is not seen here. Every cut is made by `espalier prune` from the whole model with the control policy
//! `random`, measured by `espalier bench footprint`, and deleted before the next one.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::workspace::Workspace;
use crate::{build, console, guests, process};

/// Options of `bench gpt-oss-20b`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the models are put; the whole one stays there for the next run.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Threads of the kernels.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Tokens of the prompt.
    #[arg(long, default_value_t = 128)]
    prompt_tokens: usize,
    /// Tokens decoded after it.
    #[arg(long, default_value_t = 16)]
    decode_tokens: usize,
}

/// One line of the table.
struct Case {
    size: &'static str,
    by: &'static str,
    /// `--keep-count` of `espalier prune`; nothing for the whole model.
    keep: &'static str,
    /// Parameters that it must come to, counted from the shapes of gpt-oss-20b.
    parameters: u64,
}

const fn case(size: &'static str, by: &'static str, keep: &'static str, parameters: u64) -> Case {
    Case { size, by, keep, parameters }
}

const CASES: [Case; 13] = [
    case("original", "", "", 20_914_757_184),
    case("85 %", "experts", "expert=27", 17_927_390_664),
    case("85 %", "channels", "expert-channel=2400", 17_728_970_304),
    case("85 %", "layers", "layer=20", 17_622_009_280),
    case("85 %", "heads, experts, channels", "head=56,expert=28,expert-channel=2560", 16_595_696_928),
    case("15B", "experts", "expert=22", 14_940_024_144),
    case("15B", "channels", "expert-channel=1984", 14_967_955_008),
    case("15B", "layers", "layer=16", 14_329_261_376),
    case("15B", "layers, heads, experts", "layer=22,head=56,expert=24", 14_822_020_256),
    case("12B", "experts", "expert=17", 11_952_657_624),
    case("12B", "channels", "expert-channel=1536", 11_994_553_920),
    case("12B", "layers", "layer=12", 11_036_513_472),
    case("12B", "heads, experts, channels", "head=48,expert=20,expert-channel=2560", 12_276_083_616),
];

/// What `espalier bench footprint --json` prints.
#[derive(Serialize, Deserialize)]
struct Footprint {
    parameters: u64,
    active_parameters: u64,
    disk_bytes: u64,
    load_seconds: f64,
    first_prompt_seconds: f64,
    prompt_tokens: usize,
    prefill_tokens_per_second: f64,
    decode_tokens: usize,
    decode_milliseconds_per_token: f64,
    resident: Option<Residency>,
    threads: usize,
}

#[derive(Serialize, Deserialize)]
struct Residency {
    anonymous: u64,
    file: u64,
    peak: u64,
}

/// One measured line.
#[derive(Serialize)]
struct Row {
    size: &'static str,
    by: &'static str,
    keep: &'static str,
    /// Seconds of the surgery, reading and writing included; nothing for the whole model.
    surgery_seconds: Option<f64>,
    footprint: Footprint,
}

/// Makes, measures and reports every case.
pub(crate) fn run(workspace: &Workspace, arguments: &Args) -> Result<()> {
    build::espalier(workspace)?;
    guests::build(workspace)?;
    let directory = arguments.directory.clone().unwrap_or_else(|| workspace.cache().join("gpt-oss-20b"));
    fs::create_dir_all(&directory).with_context(|| format!("can't make {}", directory.display()))?;
    let whole = directory.join("original");
    if !whole.exists() {
        console::step("gpt-oss-20b: write 13.8 GB of random weights");
        let mut synth = Command::new(workspace.espalier());
        synth.args(["synth", "--shape", "gpt-oss-20b", "--out"]).arg(&whole);
        process::run("write the whole model", &mut synth)?;
    }
    let mut rows = Vec::with_capacity(CASES.len());
    for case in &CASES {
        rows.push(measure(workspace, arguments, &whole, &directory.join("pruned"), case)?);
    }
    report(workspace, &rows)
}

/// Cuts, measures, deletes.
fn measure(workspace: &Workspace, arguments: &Args, whole: &Path, pruned: &Path, case: &Case) -> Result<Row> {
    console::step(&format!("gpt-oss-20b: {} {}", case.size, case.by));
    let mut surgery_seconds = None;
    let model = if case.keep.is_empty() {
        whole
    } else {
        // What an interrupted run has left.
        remove(pruned)?;
        let begin = Instant::now();
        let mut prune = Command::new(workspace.espalier());
        prune.args(["prune", "--policy", "random", "--keep-count", case.keep, "--model"]).arg(whole);
        prune.arg("--out").arg(pruned).env("ESPALIER_COMPONENTS_DIR", workspace.built_guests());
        process::output("cut the model", &mut prune)?;
        surgery_seconds = Some(begin.elapsed().as_secs_f64());
        pruned
    };
    let mut bench = Command::new(workspace.espalier());
    bench.args(["bench", "footprint", "--json", "--repetitions", "3", "--model"]).arg(model);
    bench.args(["--threads", &arguments.threads.to_string()]);
    bench.args(["--prompt-tokens", &arguments.prompt_tokens.to_string()]);
    bench.args(["--decode-tokens", &arguments.decode_tokens.to_string()]);
    let text = process::output("measure the model", &mut bench)?;
    let footprint: Footprint = serde_json::from_str(&text).context("bench footprint printed another form")?;
    if model == pruned {
        remove(pruned)?;
    }
    ensure!(
        footprint.parameters == case.parameters,
        "{} by {}: found {} parameters, expected {}",
        case.size,
        case.by,
        footprint.parameters,
        case.parameters
    );
    console::note(&line(case.size, case.by, &footprint, surgery_seconds));
    Ok(Row { size: case.size, by: case.by, keep: case.keep, surgery_seconds, footprint })
}

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("can't remove {}", directory.display()))?;
    }
    Ok(())
}

fn report(workspace: &Workspace, rows: &[Row]) -> Result<()> {
    let machine = machine();
    let mut table = String::from(
        "# GPT-OSS 20B, cut to 85 %, 15B and 12B\n\nMade by `cargo xtask bench gpt-oss-20b` on random weights at the true \
         shape: sizes and speeds are real, quality is not measured here. MXFP4 experts, bf16 elsewhere. Resident memory is the \
         process's own (the cache, and the experts that it has met, repacked; random routers leave some unused) and the mapped \
         files' pages that it holds, after the runs; ",
    );
    if let Some(Row { footprint, .. }) = rows.first() {
        let Footprint { prompt_tokens, decode_tokens, threads, .. } = footprint;
        writeln!(
            table,
            "prefill is a prompt of {prompt_tokens} tokens, decode the {decode_tokens} after it, medians of 3, {threads} \
             threads. The first prompt reads the weights from disk, or from the system's cache, and repacks the experts \
             that it meets. Machine: {machine}.\n"
        )?;
    }
    table.push_str(HEADER);
    for row in rows {
        writeln!(table, "{}", line(row.size, row.by, &row.footprint, row.surgery_seconds))?;
    }
    let reports = workspace.root().join("bench/reports");
    fs::write(reports.join("gpt-oss-20b.md"), &table).context("can't write the report")?;
    let json = serde_json::to_string_pretty(&json!({ "machine": machine, "rows": rows }))? + "\n";
    fs::write(reports.join("gpt-oss-20b.json"), json).context("can't write the report")?;
    console::result(&table);
    Ok(())
}

/// Processor, cores and memory, as far as the system says.
fn machine() -> String {
    let field = |path: &str, name: &str| {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))?;
        Some(line.trim().to_owned())
    };
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_else(|| "unknown".to_owned());
    format!("{processor}, {cores} cores, {memory} of memory")
}

const HEADER: &str = "| size | by | parameters | active | on disk | resident: own + files | load | first prompt | prefill tok/s | decode ms/token | surgery |\n\
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";

fn line(size: &str, by: &str, footprint: &Footprint, surgery_seconds: Option<f64>) -> String {
    let gigabytes = |bytes: u64| format!("{:.2} GB", bytes as f64 / 1e9);
    let resident = footprint.resident.as_ref().map_or_else(
        || "unknown".to_owned(),
        |resident| format!("{} + {}", gigabytes(resident.anonymous), gigabytes(resident.file)),
    );
    format!(
        "| {size} | {by} | {} | {} | {} | {resident} | {:.2} s | {:.1} s | {:.1} | {:.1} | {} |",
        grouped(footprint.parameters),
        grouped(footprint.active_parameters),
        gigabytes(footprint.disk_bytes),
        footprint.load_seconds,
        footprint.first_prompt_seconds,
        footprint.prefill_tokens_per_second,
        footprint.decode_milliseconds_per_token,
        surgery_seconds.map_or_else(String::new, |seconds| format!("{seconds:.0} s")),
    )
}

/// 20914757184 as 20,914,757,184.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        assert_eq!([7, 1_000, 20_914_757_184].map(grouped), ["7", "1,000", "20,914,757,184"]);
    }
}
