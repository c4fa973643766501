//! What an evaluation found: one row per model, in four forms.
//!
//! The JSON form is the report itself and loses nothing; the text table is for a terminal, Markdown for a document and
//! the HTML file, which needs nothing beside it, for a browser. All three show the same columns, and the change against
//! the baseline in per cent where there is one.

mod columns;
mod html;
mod language;
mod markdown;
mod number;
mod text;

use espalier_components::Measurement;
use serde::{Deserialize, Serialize};

pub use self::html::{bilingual_page, escape};
pub use self::language::Language;
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
    /// What all models were asked to go on with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<String>,
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
    /// How it goes on with each of the prompts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
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
    pub fn to_markdown(&self, language: Language) -> String {
        markdown::render(self, language)
    }

    /// The table, the remarks and the answers as part of an HTML page.
    #[must_use]
    pub fn html_body(&self, language: Language) -> String {
        html::body(self, language)
    }

    /// The report as one self-contained HTML page in both languages.
    #[must_use]
    pub fn to_html(&self) -> String {
        html::render(self)
    }

    /// What all forms say beside the table, one sentence each. What metrics say themselves is English.
    fn remarks(&self, language: Language) -> Vec<String> {
        let mut remarks = vec![self.measured_on(language)];
        if let Some(timing) = self.rows.iter().find_map(|row| row.timing.as_ref()) {
            let (prefill, decode) = (timing.request.prefill_tokens, timing.request.decode_tokens);
            let runs = timing.request.runs;
            remarks.push(match language {
                Language::English => format!(
                    "Speed: one sequence, prefill of {prefill} tokens and decode of {decode}, median of {runs} runs after a \
                     warm-up."
                ),
                Language::Chinese => format!(
                    "速度：单个序列，预填充 {prefill} 个词元、解码 {decode} 个词元，预热之后取 {runs} 次的中位数。"
                ),
            });
        }
        if let Some(baseline) = self.baseline() {
            remarks.push(match language {
                Language::English => format!("Changes in parentheses are against {}.", baseline.name),
                Language::Chinese => format!("括号中是相对于 {} 的变化。", baseline.name),
            });
            let others = self.rows.iter().skip(1);
            remarks.extend(others.filter_map(|row| larger_than_baseline(row, baseline, language)));
        }
        remarks.extend(self.notes.iter().cloned());
        remarks
    }

    fn measured_on(&self, language: Language) -> String {
        let (data, device) = (&self.data, &self.device);
        let hash = data.sha256.to_string();
        let (hash, name) = (hash.get(..12).unwrap_or_default(), &data.name);
        match language {
            Language::English => {
                let samples =
                    if data.samples > 0 { format!("{} samples, ", data.samples) } else { String::new() };
                let part = if data.truncated { "the first " } else { "" };
                format!(
                    "Measured on {samples}{part}{} tokens ({} bytes) of {name} (SHA-256 {hash}…), {device}.",
                    data.tokens, data.bytes
                )
            }
            Language::Chinese => {
                let samples =
                    if data.samples > 0 { format!("{} 个样本，", data.samples) } else { String::new() };
                let part = if data.truncated { "前 " } else { "" };
                format!(
                    "测量文本：{name}（SHA-256 {hash}…），{samples}{part}{} 个词元（{} 字节）；设备：{device}。",
                    data.tokens, data.bytes
                )
            }
        }
    }
}

/// A pruned model in a wide format can take more bytes than the unpruned one in a narrow format.
fn larger_than_baseline(row: &Row, baseline: &Row, language: Language) -> Option<String> {
    if row.parameters >= baseline.parameters || row.bytes_on_disk <= baseline.bytes_on_disk {
        return None;
    }
    let (name, formats) = (&row.name, row.formats.join(", "));
    let (other, before) = (&baseline.name, baseline.formats.join(", "));
    Some(match language {
        Language::English => format!(
            "{name} has fewer parameters than {other} but more bytes, because it is stored as {formats} and not as \
             {before}: compare bytes and speed at equal format."
        ),
        Language::Chinese => format!(
            "{name} 的参数比 {other} 少，字节却更多，因为它以 {formats} 而不是 {before} 存储：字节和速度应在相同格式下比较。"
        ),
    })
}
