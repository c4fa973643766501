//! The report as Markdown.

use espalier_evaluation::Language;

use super::removal::removed;
use super::{facts, gate_text, table};
use crate::staged::record::{CutRecord, RunRecord};

pub(super) fn render(record: &RunRecord, language: Language) -> String {
    let mut text = format!("# {}\n\n", record.recipe);
    if let Some(about) = &record.about {
        text += &format!("{about}\n\n");
    }
    for (name, value) in facts(record, language) {
        text += &format!("- {name}: {value}\n");
    }
    if let Some(table) = table(record) {
        text += &format!("\n{}\n", table.to_markdown(language));
    }
    for (index, stage) in record.stages.iter().enumerate() {
        let (word, model) = (language.choose("Stage", "阶段"), language.choose("model", "模型"));
        text += &format!("\n## {word} {}: {}\n\n", index + 1, stage.name);
        text += &format!("- {model}: {} (SHA-256 {})\n", stage.model.display(), stage.model_sha256);
        for CutRecord { plan, search, .. } in &stage.cuts {
            let (before, after) = (plan.before.parameters, plan.after.parameters);
            let (cut, gone) = (language.choose("parameters", "参数量"), language.choose("removed", "移除"));
            text += &format!("- {cut}: {before} → {after}\n");
            text += &format!("- {gone}: {}\n", removed(plan, language).join("; "));
            if let Some(search) = search {
                text += &format!("\n```text\n{}```\n\n", search.to_text());
            }
        }
        for gate in &stage.gates {
            text += &format!("- {}: {}\n", language.choose("gate", "门槛"), gate_text(gate, language));
        }
    }
    let commands = record.commands.join("\n");
    text + &format!("\n## {}\n\n```sh\n{commands}\n```\n", language.choose("Commands", "命令"))
}
