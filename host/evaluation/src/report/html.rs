//! The report as one HTML page without scripts, fonts or anything else from outside.

use std::fmt::Write as _;

use super::columns::{Cell, Column, columns};
use super::{Language, Report};

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
.answers td{white-space:pre-wrap;vertical-align:top;min-width:14rem;max-width:26rem}
pre{overflow-x:auto;padding:.6rem .8rem;background:#8881;border-radius:.3rem}
figure{display:inline-block;margin:.5rem 1rem .5rem 0;vertical-align:top}
input[name=language]{position:absolute;opacity:0}
input[name=language]+label{float:right;margin-left:.8rem;cursor:pointer;color:var(--muted)}
input[name=language]:checked+label{color:inherit;font-weight:600}
input[name=language]:focus-visible+label{outline:2px solid}
main{clear:both;display:none}
#en:checked~.en,#zh:checked~.zh{display:block}
";

/// A page that is there in both languages, with a switch between them that needs no script.
#[must_use]
pub fn bilingual_page(
    title: impl Fn(Language) -> String,
    body: impl Fn(Language) -> String,
    generator: &str,
) -> String {
    let mut page = String::new();
    page.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    put(&mut page, format_args!("<title>{}</title>\n", escape(&title(Language::English))));
    put(&mut page, format_args!("<style>\n{STYLE}</style>\n</head>\n<body>\n"));
    for language in Language::ALL {
        let (code, name) = (language.code(), language.name());
        let checked = if language == Language::English { " checked" } else { "" };
        put(
            &mut page,
            format_args!(
                "<input type=\"radio\" name=\"language\" id=\"{code}\"{checked}><label for=\"{code}\" lang=\"{code}\">{name}</label>\n"
            ),
        );
    }
    for language in Language::ALL {
        let code = language.code();
        put(&mut page, format_args!("<main class=\"{code}\" lang=\"{code}\">\n"));
        put(&mut page, format_args!("<h1>{}</h1>\n{}</main>\n", escape(&title(language)), body(language)));
    }
    put(&mut page, format_args!("<footer>{}</footer>\n</body>\n</html>\n", escape(generator)));
    page
}

pub(super) fn render(report: &Report) -> String {
    let title = |language: Language| match language {
        Language::English => format!("Evaluation on {}", report.data.name),
        Language::Chinese => format!("评测：{}", report.data.name),
    };
    bilingual_page(title, |language| body(report, language), &report.generator)
}

/// The table, the remarks and the answers.
pub(super) fn body(report: &Report, language: Language) -> String {
    let columns = columns(report, language);
    let mut text = "<div class=\"scroll\">\n<table>\n<thead>\n<tr>".to_owned();
    for column in &columns {
        put(&mut text, format_args!("<th{}>{}</th>", class(column), escape(&column.title)));
    }
    text.push_str("</tr>\n</thead>\n<tbody>\n");
    for row in 0..report.rows.len() {
        text.push_str("<tr>");
        for column in &columns {
            let cell = column.cells.get(row).map(contents).unwrap_or_default();
            put(&mut text, format_args!("<td{}>{cell}</td>", class(column)));
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</tbody>\n</table>\n</div>\n<ul>\n");
    for note in report.remarks(language) {
        put(&mut text, format_args!("<li>{}</li>\n", escape(&note)));
    }
    let (hash, metrics) =
        (language.choose("SHA-256 of the text", "文本的 SHA-256"), language.choose("Metrics", "指标"));
    put(&mut text, format_args!("<li>{hash}: <code>{}</code></li>\n", report.data.sha256));
    put(&mut text, format_args!("<li>{metrics}: {}</li>\n</ul>\n", escape(&report.metrics.join(", "))));
    text + &answers(report, language)
}

/// One column for each model that has answered.
fn answers(report: &Report, language: Language) -> String {
    let rows: Vec<_> = report.rows.iter().filter(|row| !row.answers.is_empty()).collect();
    if report.prompts.is_empty() || rows.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "<h2>{}</h2>\n<div class=\"scroll\">\n<table class=\"answers\">\n<thead>\n<tr><th>{}</th>",
        language.choose("The same prompts", "相同的提示"),
        language.choose("prompt", "提示"),
    );
    for row in &rows {
        put(&mut text, format_args!("<th>{}</th>", escape(&row.name)));
    }
    text.push_str("</tr>\n</thead>\n<tbody>\n");
    for (index, prompt) in report.prompts.iter().enumerate() {
        put(&mut text, format_args!("<tr><td>{}</td>", escape(prompt)));
        for row in &rows {
            let answer = row.answers.get(index).map(String::as_str).unwrap_or_default();
            put(&mut text, format_args!("<td>{}</td>", escape(answer)));
        }
        text.push_str("</tr>\n");
    }
    text + "</tbody>\n</table>\n</div>\n"
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

/// Text as it may stand in a page.
#[must_use]
pub fn escape(text: &str) -> String {
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
