//! The report as one HTML page without scripts, fonts or anything else from outside.

use std::fmt::Write as _;

use super::Report;
use super::columns::{Cell, Column, columns};

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--muted:#777}
body{font:15px/1.5 system-ui,sans-serif;max-width:80rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem;margin-bottom:.2rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;margin:1.2rem 0;font-variant-numeric:tabular-nums}
th,td{padding:.45rem .8rem;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}
.n{text-align:right}
small{display:block;color:var(--muted)}
li{margin:.3rem 0}
footer{color:var(--muted);margin-top:2rem}
";

pub(super) fn render(report: &Report) -> String {
    let columns = columns(report);
    let mut page = String::new();
    page.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    put(&mut page, format_args!("<title>Evaluation on {}</title>\n", escape(&report.data.name)));
    put(&mut page, format_args!("<style>\n{STYLE}</style>\n</head>\n<body>\n"));
    put(&mut page, format_args!("<h1>Evaluation on {}</h1>\n", escape(&report.data.name)));
    page.push_str("<div class=\"scroll\">\n<table>\n<thead>\n<tr>");
    for column in &columns {
        put(&mut page, format_args!("<th{}>{}</th>", class(column), escape(&column.title)));
    }
    page.push_str("</tr>\n</thead>\n<tbody>\n");
    for row in 0..report.rows.len() {
        page.push_str("<tr>");
        for column in &columns {
            let cell = column.cells.get(row).map(contents).unwrap_or_default();
            put(&mut page, format_args!("<td{}>{cell}</td>", class(column)));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table>\n</div>\n<ul>\n");
    for note in report.remarks() {
        put(&mut page, format_args!("<li>{}</li>\n", escape(&note)));
    }
    put(&mut page, format_args!("<li>SHA-256 of the text: <code>{}</code></li>\n", report.data.sha256));
    put(&mut page, format_args!("<li>Metrics: {}</li>\n</ul>\n", escape(&report.metrics.join(", "))));
    put(&mut page, format_args!("<footer>{}</footer>\n</body>\n</html>\n", escape(&report.generator)));
    page
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    let _ = page.write_fmt(text);
}

fn class(column: &Column) -> &'static str {
    if column.numeric { " class=\"n\"" } else { "" }
}

fn contents(cell: &Cell) -> String {
    let change = cell.change.as_ref().map(|change| format!("<small>{}</small>", escape(change)));
    format!("{}{}", escape(&cell.text), change.unwrap_or_default())
}

fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
        escaped
    })
}
