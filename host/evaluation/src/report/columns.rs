//! The columns of the table, which its three renderings share.

use espalier_components::Measurement;

use super::{Language, Report, Row, number};

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
pub(super) fn columns(report: &Report, language: Language) -> Vec<Column> {
    let title = |english: &'static str, chinese: &'static str| language.choose(english, chinese);
    let mut columns = vec![
        words(report, title("model", "模型"), |row| row.name.clone()),
        words(report, title("format", "格式"), |row| row.formats.join("+")),
    ];
    let mut push = |title: &str, figure: &dyn Fn(&Row) -> Option<Figure>| {
        columns.extend(figures(report, title, figure));
    };
    push(title("parameters", "参数量"), &|row| {
        Some(Figure::new(row.parameters as f64, number::count(row.parameters)))
    });
    push(title("on disk", "磁盘占用"), &|row| Some(Figure::bytes(row.bytes_on_disk)));
    push(title("weights", "权重内存"), &|row| Some(Figure::bytes(row.weight_bytes)));
    push(title("resident", "常驻内存"), &|row| row.resident_bytes.map(Figure::bytes));
    for name in measurement_names(report) {
        push(&name, &|row| row.measurements.iter().find(|found| found.name == name).map(Figure::measured));
    }
    let milliseconds = |value: f64| Figure::new(value, number::figure(value));
    push(title("prefill ms/token", "预填充 毫秒/词元"), &|row| {
        row.timing.map(|timing| milliseconds(timing.prefill_ms_per_token))
    });
    push(title("decode ms/token", "解码 毫秒/词元"), &|row| {
        row.timing.map(|timing| milliseconds(timing.decode_ms_per_token))
    });
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
