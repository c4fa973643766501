//! The report of a run: `report.json`, `report.html`, and `report.md` and `report.zh.md`, made from the run's record alone.
//!
//! The table is the evaluation's, with one row for the unpruned model and one for each stage. The page needs nothing
//! beside it and has a switch between its languages.

mod charts;
mod html;
mod markdown;
mod removal;

use std::path::Path;

use espalier_evaluation::{Language, Report, Row};

use super::record::{GateResult, RunRecord, RunStatus, replace};
use crate::error::PruningError;
use crate::recipe::Bound;

/// Writes the files into the run's directory.
///
/// # Errors
/// The disk, or a figure that JSON cannot hold.
pub fn write_report(record: &RunRecord, directory: &Path) -> Result<(), PruningError> {
    replace(&directory.join("report.json"), &record.to_json()?)?;
    replace(&directory.join("report.md"), markdown::render(record, Language::English).as_bytes())?;
    replace(&directory.join("report.zh.md"), markdown::render(record, Language::Chinese).as_bytes())?;
    replace(&directory.join("report.html"), html::render(record).as_bytes())
}

/// The stages' evaluations as one table.
fn table(record: &RunRecord) -> Option<Report> {
    let mut report = record.stages.first()?.evaluation.clone();
    let later = record.stages.iter().skip(1);
    report.rows.extend(later.flat_map(|stage| stage.evaluation.rows.iter().skip(1).cloned()));
    Some(report)
}

/// The unpruned model and what each stage left.
fn stages(record: &RunRecord) -> Vec<Row> {
    let first = record.stages.first().and_then(|stage| stage.evaluation.baseline());
    let left = record.stages.iter().filter_map(|stage| stage.evaluation.rows.last());
    first.into_iter().chain(left).cloned().collect()
}

fn status(record: &RunRecord, language: Language) -> &'static str {
    match record.status {
        RunStatus::Running => language.choose("not finished", "未完成"),
        RunStatus::Finished => language.choose("finished", "已完成"),
        RunStatus::Stopped => language
            .choose("stopped by a gate; the last good model is kept", "被门槛停止；保留最后一个合格的模型"),
    }
}

/// The facts about a run, as names and values.
fn facts(record: &RunRecord, language: Language) -> Vec<(&'static str, String)> {
    let with_texts = language.choose("SHA-256 with its texts", "连同文本的 SHA-256");
    vec![
        (
            language.choose("Recipe", "配方"),
            format!("{} ({with_texts}: {})", record.recipe, record.recipe_sha256),
        ),
        (
            language.choose("Model", "模型"),
            format!("{} (SHA-256 {})", record.model.display(), record.model_sha256),
        ),
        (language.choose("Seed", "随机种子"), record.seed.to_string()),
        (language.choose("Status", "状态"), status(record, language).to_owned()),
    ]
}

fn gate_text(result: &GateResult, language: Language) -> String {
    let (word, limit) = match result.gate.bound {
        Bound::AtMost(limit) => (language.choose("at most", "不超过"), limit),
        Bound::AtLeast(limit) => (language.choose("at least", "不低于"), limit),
    };
    let of = match result.gate.relative {
        true => language.choose(" times the unpruned model's", " 倍（相对未剪枝模型）"),
        false => "",
    };
    let verdict = match result.passed {
        true => language.choose("passed", "通过"),
        false => language.choose("failed", "未通过"),
    };
    format!("{} {word} {limit}{of}: {:.4}, {verdict}", result.gate.metric, result.value)
}
