//! The report as a Markdown table.

use super::Report;
use super::columns::{Cell, Column, columns};

pub(super) fn render(report: &Report) -> String {
    let columns = columns(report);
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
    lines.extend(report.remarks().iter().map(|note| format!("- {}", escape(note))));
    lines.push(String::new());
    lines.join("\n")
}

fn line(columns: &[Column], text: impl Fn(&Column) -> String) -> String {
    format!("| {} |", columns.iter().map(text).collect::<Vec<_>>().join(" | "))
}

/// Names come from paths and components; none of them may end a cell or begin a tag.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;").replace(['\n', '\r'], " ")
}
