//! The columns of the table, which its three renderings share.

use super::{Report, Row, number};

/// A column: its title and one cell per row.
pub(super) struct Column {
    pub(super) title: String,
    /// Whether the cells are figures, which are aligned right.
    pub(super) numeric: bool,
    pub(super) cells: Vec<Cell>,
}

/// A figure and its change against the baseline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) change: Option<String>,
}

impl Cell {
    /// The cell on one line.
    pub(super) fn line(&self) -> String {
        match &self.change {
            Some(change) => format!("{} ({change})", self.text),
            None => self.text.clone(),
        }
    }
}

/// The columns that have at least one value.
pub(super) fn columns(report: &Report) -> Vec<Column> {
    let mut columns = vec![
        words(report, "model", |row| row.name.clone()),
        words(report, "format", |row| row.formats.join("+")),
    ];
    let mut push = |title: &str, value: &dyn Fn(&Row) -> Option<f64>, show: &dyn Fn(f64) -> String| {
        columns.extend(figures(report, title, value, show));
    };
    let count = |value: f64| number::count(value as u64);
    let bytes = |value: f64| number::bytes(value as u64);
    push("parameters", &|row| Some(row.parameters as f64), &count);
    push("on disk", &|row| Some(row.bytes_on_disk as f64), &bytes);
    push("weights", &|row| Some(row.weight_bytes as f64), &bytes);
    push("resident", &|row| row.resident_bytes.map(|bytes| bytes as f64), &bytes);
    for name in measurement_names(report) {
        let value =
            |row: &Row| row.measurements.iter().find(|found| found.name == name).map(|found| found.value);
        push(&name, &value, &number::figure);
    }
    push("prefill ms/token", &|row| row.timing.map(|timing| timing.prefill_ms_per_token), &number::figure);
    push("decode ms/token", &|row| row.timing.map(|timing| timing.decode_ms_per_token), &number::figure);
    // These two compare with the baseline already.
    let agreement = |value: fn(&Row) -> Option<f64>| move |row: &Row| value(row);
    columns.extend(without_change(figures(
        report,
        "KL from baseline",
        &agreement(|row| row.agreement.map(|agreement| agreement.mean_kl)),
        &number::figure,
    )));
    columns.extend(without_change(figures(
        report,
        "same top token",
        &agreement(|row| row.agreement.map(|agreement| agreement.same_top)),
        &|share| format!("{:.1} %", share * 100.0),
    )));
    columns
}

/// All names, in the order in which the components gave them.
fn measurement_names(report: &Report) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for measurement in report.rows.iter().flat_map(|row| &row.measurements) {
        if !names.contains(&measurement.name) {
            names.push(measurement.name.clone());
        }
    }
    names
}

fn words(report: &Report, title: &str, value: impl Fn(&Row) -> String) -> Column {
    let cells = report.rows.iter().map(|row| Cell { text: value(row), change: None }).collect();
    Column { title: title.to_owned(), numeric: false, cells }
}

fn figures(
    report: &Report,
    title: &str,
    value: &dyn Fn(&Row) -> Option<f64>,
    show: &dyn Fn(f64) -> String,
) -> Option<Column> {
    let base = report.baseline().and_then(value);
    let cell = |(index, row): (usize, &Row)| {
        let Some(value) = value(row) else { return Cell { text: "-".to_owned(), change: None } };
        let compared = if index == 0 { None } else { base };
        Cell { text: show(value), change: compared.and_then(|base| number::change(value, base)) }
    };
    if report.rows.iter().all(|row| value(row).is_none()) {
        return None;
    }
    let cells = report.rows.iter().enumerate().map(cell).collect();
    Some(Column { title: title.to_owned(), numeric: true, cells })
}

fn without_change(column: Option<Column>) -> Option<Column> {
    column.map(|mut column| {
        for cell in &mut column.cells {
            cell.change = None;
        }
        column
    })
}
