//! The report as one page in both languages.

use espalier_evaluation::{Language, bilingual_page, escape};

use super::charts::{curves, front, importance_map, kept_map, models};
use super::removal::removed;
use super::{facts, gate_text, stages, table};
use crate::staged::record::{CutRecord, RunRecord, StageRecord};

pub(super) fn render(record: &RunRecord) -> String {
    let title = |_: Language| record.recipe.clone();
    bilingual_page(title, |language| body(record, language), &record.generator)
}

fn body(record: &RunRecord, language: Language) -> String {
    let heading = |english, chinese| format!("<h2>{}</h2>\n", language.choose(english, chinese));
    let mut text = String::new();
    if let Some(about) = &record.about {
        text += &format!("<p>{}</p>\n", escape(about));
    }
    let table = table(record);
    if let Some(table) = &table {
        text += &table.html_body(language);
        text += &heading("Quality for size", "质量与大小");
        text += &models(&table.rows, language);
        text += &heading("Stage by stage", "逐个阶段");
        text += &curves(&stages(record), language);
    }
    for (index, stage) in record.stages.iter().enumerate() {
        text += &format!("<h3>{}. {}</h3>\n", index + 1, escape(&stage.name));
        text += &stage_body(stage, language);
    }
    text += &heading("Run", "运行");
    text += &list(facts(record, language).iter().map(|(name, value)| format!("{name}: {value}")));
    text += &heading("Commands", "命令");
    text + &format!("<pre>{}</pre>\n", escape(&record.commands.join("\n")))
}

fn stage_body(stage: &StageRecord, language: Language) -> String {
    let model = format!(
        "{}: {} (SHA-256 {})",
        language.choose("model", "模型"),
        stage.model.display(),
        stage.model_sha256
    );
    let gates = stage
        .gates
        .iter()
        .map(|gate| format!("{}: {}", language.choose("gate", "门槛"), gate_text(gate, language)));
    let mut text = list(std::iter::once(model).chain(gates));
    for (index, CutRecord { plan, importance, search }) in stage.cuts.iter().enumerate() {
        let (before, after) = (plan.before.parameters, plan.after.parameters);
        let gone = removed(plan, language).join("; ");
        text += &match language {
            Language::English => {
                format!("<p>Cut {}: {before} parameters to {after}; removed: {gone}</p>\n", index + 1)
            }
            Language::Chinese => {
                format!("<p>第 {} 次剪枝：参数量 {before} → {after}；移除：{gone}</p>\n", index + 1)
            }
        };
        text += &search.as_ref().map(|search| front(search, language)).unwrap_or_default();
        text += &kept_map(plan, language);
        text += &importance.iter().map(|found| importance_map(found, language)).collect::<String>();
    }
    text
}

fn list(lines: impl Iterator<Item = String>) -> String {
    let lines: String = lines.map(|line| format!("<li>{}</li>\n", escape(&line))).collect();
    format!("<ul>\n{lines}</ul>\n")
}
