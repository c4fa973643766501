//! The report of a run: `report.json`, `report.md` and `report.html`, made from the run's record alone.
//!
//! The table is the evaluation's, with one row for the unpruned model and one for each stage. The page needs nothing
//! beside it.

use std::fmt::Write as _;
use std::path::Path;

use espalier_evaluation::{Report, Row};

use super::record::{GateResult, RunRecord, RunStatus, replace};
use crate::error::PruningError;
use crate::plan::{LayerPlan, Selection};
use crate::recipe::Bound;

/// Writes the three files into the run's directory.
///
/// # Errors
/// The disk, or a figure that JSON cannot hold.
pub fn write_report(record: &RunRecord, directory: &Path) -> Result<(), PruningError> {
    replace(&directory.join("report.json"), &record.to_json()?)?;
    replace(&directory.join("report.md"), markdown(record).as_bytes())?;
    replace(&directory.join("report.html"), page(record).as_bytes())
}

/// The stages' evaluations as one table.
fn table(record: &RunRecord) -> Option<Report> {
    let mut report = record.stages.first()?.evaluation.clone();
    report
        .rows
        .extend(record.stages.iter().skip(1).filter_map(|stage| stage.evaluation.rows.last().cloned()));
    Some(report)
}

fn status(record: &RunRecord) -> &'static str {
    match record.status {
        RunStatus::Running => "not finished",
        RunStatus::Finished => "finished",
        RunStatus::Stopped => "stopped by a gate; the last good model is kept",
    }
}

/// The facts about a run, as names and values.
fn facts(record: &RunRecord) -> Vec<(&'static str, String)> {
    vec![
        ("Recipe", format!("{} (SHA-256 with its texts: {})", record.recipe, record.recipe_sha256)),
        ("Model", format!("{} (SHA-256 {})", record.model.display(), record.model_sha256)),
        ("Seed", record.seed.to_string()),
        ("Status", status(record).to_owned()),
    ]
}

fn gate_text(result: &GateResult) -> String {
    let (word, limit) = match result.gate.bound {
        Bound::AtMost(limit) => ("at most", limit),
        Bound::AtLeast(limit) => ("at least", limit),
    };
    let of = if result.gate.relative { " times the unpruned model's" } else { "" };
    let verdict = if result.passed { "passed" } else { "failed" };
    format!("{} {word} {limit}{of}: {:.4}, {verdict}", result.gate.metric, result.value)
}

/// How much of each layer the cuts of a stage leave, by kind: `(kind, share per layer)`.
fn kept(layers: &[LayerPlan]) -> Vec<(&'static str, Vec<f64>)> {
    let share = |found: &Selection| found.kept_count() as f64 / found.count.max(1) as f64;
    let whole = |layer: &LayerPlan, value: f64| if layer.removed { 0.0 } else { value };
    // A key/value group takes its heads with it.
    let heads = |layer: &LayerPlan| layer.kept_heads().len() as f64 / layer.heads.count.max(1) as f64;
    let heads = layers.iter().map(|layer| whole(layer, heads(layer)));
    let mut rows = vec![("heads", heads.collect::<Vec<_>>())];
    let channels =
        layers.iter().map(|layer| layer.ffn_channels.as_ref().map(|found| whole(layer, share(found))));
    rows.extend(channels.collect::<Option<Vec<_>>>().map(|shares| ("channels", shares)));
    let experts = layers.iter().map(|layer| layer.experts.as_ref().map(|found| whole(layer, share(found))));
    rows.extend(experts.collect::<Option<Vec<_>>>().map(|shares| ("experts", shares)));
    rows
}

fn markdown(record: &RunRecord) -> String {
    let mut text = format!("# {}\n\n", record.recipe);
    if let Some(about) = &record.about {
        text += &format!("{about}\n\n");
    }
    for (name, value) in facts(record) {
        text += &format!("- {name}: {value}\n");
    }
    if let Some(table) = table(record) {
        text += &format!("\n{}\n", table.to_markdown());
    }
    for (index, stage) in record.stages.iter().enumerate() {
        text += &format!("\n## Stage {}: {}\n\n", index + 1, stage.name);
        text += &format!("- model: {} (SHA-256 {})\n", stage.model.display(), stage.model_sha256);
        for plan in &stage.plans {
            let (before, after) = (plan.before.parameters, plan.after.parameters);
            text += &format!("- cut: {before} parameters to {after}\n");
        }
        for gate in &stage.gates {
            text += &format!("- gate: {}\n", gate_text(gate));
        }
    }
    text
}

fn page(record: &RunRecord) -> String {
    let Some(table) = table(record) else {
        return format!("<!doctype html>\n<meta charset=\"utf-8\">\n<p>{}</p>\n", escape(&markdown(record)));
    };
    let page = table.to_html();
    let (before, after) = page.split_once("<footer>").unwrap_or((&page, ""));
    let mut text = before.to_owned();
    text += "<h2>Run</h2>\n<ul>\n";
    for (name, value) in facts(record) {
        text += &format!("<li>{name}: {}</li>\n", escape(&value));
    }
    text += "</ul>\n<h2>Stage by stage</h2>\n";
    text += &curves(&table.rows);
    for (index, stage) in record.stages.iter().enumerate() {
        text += &format!("<h3>{}. {}</h3>\n<ul>\n", index + 1, escape(&stage.name));
        let model = escape(&stage.model.display().to_string());
        text += &format!("<li>model: {model} (SHA-256 <code>{}</code>)</li>\n", stage.model_sha256);
        for gate in &stage.gates {
            text += &format!("<li>gate: {}</li>\n", escape(&gate_text(gate)));
        }
        text += "</ul>\n";
        for (cut, plan) in stage.plans.iter().enumerate() {
            let (before, after) = (plan.before.parameters, plan.after.parameters);
            text += &format!("<p>Cut {}: {before} parameters to {after}</p>\n", cut + 1);
            text += &heat_map(&kept(&plan.layers));
        }
    }
    text + "<footer>" + after
}

/// One small chart for each measurement, over the stages.
fn curves(rows: &[Row]) -> String {
    let mut text = String::new();
    let Some(first) = rows.first() else { return text };
    let parameters: Vec<f64> = rows.iter().map(|row| row.parameters as f64).collect();
    text += &curve("parameters", &parameters);
    let names = rows.iter().flat_map(|row| &row.measurements).map(|found| found.name.as_str());
    let mut seen: Vec<&str> = Vec::new();
    for name in names {
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let values = rows.iter().map(|row| {
            let found = row.measurements.iter().find(|found| found.name == name);
            found.map(|found| found.value)
        });
        // Agreement with the unpruned model is nothing that the unpruned model has.
        let skipped = usize::from(!first.measurements.iter().any(|found| found.name == name));
        if let Some(values) = values.skip(skipped).collect::<Option<Vec<f64>>>() {
            text += &curve(name, &values);
        }
    }
    text
}

/// Nothing where there is one value alone.
fn curve(name: &str, values: &[f64]) -> String {
    let ([first, _, ..], Some(last)) = (values, values.last()) else { return String::new() };
    let figure =
        |value: f64| if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.4}") };
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (range, steps) = ((most - least).max(f64::MIN_POSITIVE), values.len().saturating_sub(1).max(1));
    let mut points = String::new();
    for (index, value) in values.iter().enumerate() {
        let x = 10.0 + 280.0 * index as f64 / steps as f64;
        let y = 90.0 - 70.0 * (value - least) / range;
        let _ = write!(points, "{x:.1},{y:.1} ");
    }
    format!(
        "<figure style=\"display:inline-block;margin:.5rem 1rem .5rem 0\"><svg width=\"300\" height=\"100\" role=\"img\" \
         aria-label=\"{0}\"><polyline points=\"{points}\" fill=\"none\" stroke=\"#2a7\" stroke-width=\"2\"/></svg>\
         <figcaption><b>{0}</b> {1} to {2}</figcaption></figure>\n",
        escape(name),
        figure(*first),
        figure(*last),
    )
}

/// One column for each layer; the darker, the more of it stayed.
fn heat_map(rows: &[(&str, Vec<f64>)]) -> String {
    let mut text = String::new();
    for (name, shares) in rows {
        let width = shares.len() * 18;
        text +=
            &format!("<figure style=\"margin:.5rem 0\"><svg width=\"{width}\" height=\"18\" role=\"img\">");
        for (layer, share) in shares.iter().enumerate() {
            let (x, percent) = (layer * 18, share * 100.0);
            text += &format!(
                "<rect x=\"{x}\" width=\"17\" height=\"18\" fill=\"#2a7\" fill-opacity=\"{share:.3}\" stroke=\"#8888\">\
                 <title>layer {layer}: {percent:.1} % of {name} stay</title></rect>"
            );
        }
        text += &format!("</svg><figcaption>{name} that stay, by layer</figcaption></figure>\n");
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
