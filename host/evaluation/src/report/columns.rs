//! The columns of the table, which its three renderings share.

use espalier_components::Measurement;

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
    let mut push = |title: &str, figure: &dyn Fn(&Row) -> Option<Figure>| {
        columns.extend(figures(report, title, figure));
    };
    push("parameters", &|row| Some(Figure::new(row.parameters as f64, number::count(row.parameters))));
    push("on disk", &|row| Some(Figure::bytes(row.bytes_on_disk)));
    push("weights", &|row| Some(Figure::bytes(row.weight_bytes)));
    push("resident", &|row| row.resident_bytes.map(Figure::bytes));
    for name in measurement_names(report) {
        push(&name, &|row| row.measurements.iter().find(|found| found.name == name).map(Figure::measured));
    }
    let milliseconds = |value: f64| Figure::new(value, number::figure(value));
    push("prefill ms/token", &|row| row.timing.map(|timing| milliseconds(timing.prefill_ms_per_token)));
    push("decode ms/token", &|row| row.timing.map(|timing| milliseconds(timing.decode_ms_per_token)));
    columns
}

/// A figure and how it is shown.
struct Figure {
    value: f64,
    text: String,
}

impl Figure {
    const fn new(value: f64, text: String) -> Self {
        Self { value, text }
    }

    fn bytes(bytes: u64) -> Self {
        Self::new(bytes as f64, number::bytes(bytes))
    }

    fn measured(measurement: &Measurement) -> Self {
        let shown = number::figure(measurement.value);
        Self::new(
            measurement.value,
            match measurement.standard_error {
                Some(error) => format!("{shown} ± {}", number::error(error)),
                None => shown,
            },
        )
    }
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

fn figures(report: &Report, title: &str, figure: &dyn Fn(&Row) -> Option<Figure>) -> Option<Column> {
    let base = report.baseline().and_then(figure).map(|base| base.value);
    let cell = |(index, row): (usize, &Row)| match figure(row) {
        Some(Figure { value, text }) => {
            let compared = if index == 0 { None } else { base };
            Cell { text, change: compared.and_then(|base| number::change(value, base)) }
        }
        None => Cell { text: "-".to_owned(), change: None },
    };
    if report.rows.iter().all(|row| figure(row).is_none()) {
        return None;
    }
    let cells = report.rows.iter().enumerate().map(cell).collect();
    Some(Column { title: title.to_owned(), numeric: true, cells })
}
