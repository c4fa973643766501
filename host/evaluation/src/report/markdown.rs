//! The report as a Markdown table.

use super::columns::{Cell, Column, columns};
use super::{Language, Report};

pub(super) fn render(report: &Report, language: Language) -> String {
    let columns = columns(report, language);
    let mut lines = vec![
        line(&columns, |column| escape(&column.title)),
        line(&columns, |column| if column.numeric { "---:" } else { "---" }.to_owned()),
    ];
    for row in 0..report.rows.len() {
        lines.push(line(&columns, |column| {
            escape(&column.cells.get(row).map(Cell::line).unwrap_or_default())
        }));
    }
    lines.push(String::new());
    lines.extend(report.remarks(language).iter().map(|note| format!("- {}", escape(note))));
    lines.push(String::new());
    for (index, prompt) in report.prompts.iter().enumerate() {
        lines.push(format!("> **{}**", escape(prompt)));
        for row in report.rows.iter().filter(|row| index < row.answers.len()) {
            let answer = row.answers.get(index).map(|answer| escape(answer)).unwrap_or_default();
            lines.push(format!("> - {}: {answer}", escape(&row.name)));
        }
        lines.push(String::new());
    }
    lines.join("\n")
}

fn line(columns: &[Column], text: impl Fn(&Column) -> String) -> String {
    format!("| {} |", columns.iter().map(text).collect::<Vec<_>>().join(" | "))
}

/// Names come from paths and components; none of them may end a cell or begin a tag.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;").replace(['\n', '\r'], " ")
}
