//! What an evaluation found: one row per model, in four forms.
//!
//! The JSON form is the report itself and loses nothing; the text table is for a terminal, Markdown for a document and
//! the HTML file, which needs nothing beside it, for a browser. All three show the same columns, and the change against
//! the baseline in per cent where there is one.

mod columns;
mod html;
mod markdown;
mod number;
mod text;

use espalier_components::Measurement;
use serde::{Deserialize, Serialize};

use crate::error::EvaluationError;
use crate::text::TextRecord;
use crate::timing::Timing;

/// The result of one evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The program and its version.
    pub generator: String,
    /// What was measured on.
    pub data: TextRecord,
    /// The metric components, as `name@version`.
    pub metrics: Vec<String>,
    /// What the metrics say beside their figures, a sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The device: instruction set and threads.
    pub device: String,
    /// Whether the first row is the baseline that the others are compared with.
    pub has_baseline: bool,
    /// One row per model.
    pub rows: Vec<Row>,
}

/// One model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What it is called.
    pub name: String,
    /// The formats that its matrices are stored in, most bytes first.
    pub formats: Vec<String>,
    /// Parameters.
    pub parameters: u64,
    /// Bytes of its weight files.
    pub bytes_on_disk: u64,
    /// Bytes of its weights in memory.
    pub weight_bytes: u64,
    /// Growth of the process's resident memory by loading and running it, where the system tells.
    pub resident_bytes: Option<u64>,
    /// What the metric components measured.
    pub measurements: Vec<Measurement>,
    /// Speed, if it was measured.
    pub timing: Option<Timing>,
}

impl Report {
    /// The row that the others are compared with.
    #[must_use]
    pub fn baseline(&self) -> Option<&Row> {
        if self.has_baseline { self.rows.first() } else { None }
    }

    /// The report as JSON.
    ///
    /// # Errors
    /// A figure that JSON cannot hold.
    pub fn to_json(&self) -> Result<String, EvaluationError> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// The report as an aligned table for a terminal.
    #[must_use]
    pub fn to_text(&self) -> String {
        text::render(self)
    }

    /// The report as Markdown.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        markdown::render(self)
    }

    /// The report as one self-contained HTML page.
    #[must_use]
    pub fn to_html(&self) -> String {
        html::render(self)
    }

    /// What all forms say beside the table, one sentence each.
    fn remarks(&self) -> Vec<String> {
        let data = &self.data;
        let samples = if data.samples > 0 { format!("{} samples, ", data.samples) } else { String::new() };
        let part = if data.truncated { "the first " } else { "" };
        let mut remarks = vec![format!(
            "Measured on {samples}{part}{} tokens ({} bytes) of {} (SHA-256 {}…), {}.",
            data.tokens,
            data.bytes,
            data.name,
            data.sha256.to_string().get(..12).unwrap_or_default(),
            self.device,
        )];
        if let Some(timing) = self.rows.iter().find_map(|row| row.timing.as_ref()) {
            let request = &timing.request;
            remarks.push(format!(
                "Speed: one sequence, prefill of {} tokens and decode of {}, median of {} runs after a warm-up.",
                request.prefill_tokens, request.decode_tokens, request.runs
            ));
        }
        if let Some(baseline) = self.baseline() {
            remarks.push(format!("Changes in parentheses are against {}.", baseline.name));
            remarks.extend(self.rows.iter().skip(1).filter_map(|row| larger_than_baseline(row, baseline)));
        }
        remarks.extend(self.notes.iter().cloned());
        remarks
    }
}

/// A pruned model in a wide format can take more bytes than the unpruned one in a narrow format.
fn larger_than_baseline(row: &Row, baseline: &Row) -> Option<String> {
    (row.parameters < baseline.parameters && row.bytes_on_disk > baseline.bytes_on_disk).then(|| {
        format!(
            "{} has fewer parameters than {} but more bytes, because it is stored as {} and not as {}: compare bytes \
             and speed at equal format.",
            row.name,
            baseline.name,
            row.formats.join(", "),
            baseline.formats.join(", ")
        )
    })
}
