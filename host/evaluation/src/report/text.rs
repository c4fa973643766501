//! The report on a terminal: columns aligned by spaces.

use super::columns::{Column, columns};
use super::{Language, Report};

pub(super) fn render(report: &Report) -> String {
    let columns = columns(report, Language::English);
    let widths: Vec<usize> = columns.iter().map(width).collect();
    let mut lines = vec![line(&columns, &widths, |column| column.title.clone())];
    lines.push(widths.iter().map(|&width| "-".repeat(width)).collect::<Vec<_>>().join("  "));
    for row in 0..report.rows.len() {
        lines.push(line(&columns, &widths, |column| {
            column.cells.get(row).map(super::columns::Cell::line).unwrap_or_default()
        }));
    }
    lines.push(String::new());
    lines.extend(report.remarks(Language::English));
    for (index, prompt) in report.prompts.iter().enumerate() {
        lines.push(format!("\n{prompt:?}"));
        let answers = report.rows.iter().filter_map(|row| Some((&row.name, row.answers.get(index)?)));
        lines.extend(answers.map(|(name, answer)| format!("  {name}: {answer:?}")));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn width(column: &Column) -> usize {
    let cells = column.cells.iter().map(|cell| cell.line().chars().count());
    cells.chain([column.title.chars().count()]).max().unwrap_or(0)
}

fn line(columns: &[Column], widths: &[usize], text: impl Fn(&Column) -> String) -> String {
    let cells = columns.iter().zip(widths).map(|(column, &width)| {
        let text = text(column);
        if column.numeric { format!("{text:>width$}") } else { format!("{text:<width$}") }
    });
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}
