//! The report in its four forms.

use espalier_components::Measurement;
use espalier_evaluation::{Report, Row, TextRecord, Timing, TimingRequest};

fn row(name: &str, parameters: u64, bytes: u64, perplexity: f64) -> Row {
    Row {
        name: name.to_owned(),
        formats: vec!["bf16".to_owned()],
        parameters,
        bytes_on_disk: bytes + 576,
        weight_bytes: bytes,
        resident_bytes: None,
        measurements: vec![Measurement {
            name: "perplexity.chunks".to_owned(),
            value: perplexity,
            standard_error: Some(0.25),
        }],
        timing: Some(Timing {
            prefill_ms_per_token: 1.5 * parameters as f64 / 1e8,
            decode_ms_per_token: 8.0 * parameters as f64 / 1e8,
            request: TimingRequest::default(),
        }),
    }
}

fn report() -> Report {
    let mut quantised = row("original", 134_515_008, 97_000_000, 20.0);
    quantised.formats = vec!["q4_1".to_owned(), "q8_0".to_owned()];
    let mut pruned = row("pruned|75 <b>", 100_000_000, 200_000_000, 25.5);
    let mut measured = |name: &str, value: f64, standard_error: Option<f64>| {
        pruned.measurements.push(Measurement { name: name.to_owned(), value, standard_error });
    };
    measured("bits-per-byte", 0.987_65, None);
    measured("agreement.kl", 0.125, Some(0.01));
    Report {
        generator: "espalier 0.1.0".to_owned(),
        data: TextRecord {
            name: "test.txt".to_owned(),
            sha256: espalier_state::Digest::of(b"test"),
            samples: 0,
            tokens: 8192,
            bytes: 40_000,
            truncated: true,
        },
        metrics: vec!["perplexity@0.1.0".to_owned()],
        notes: vec!["perplexity: a < b".to_owned()],
        device: "CPU with AVX2, 2 threads".to_owned(),
        has_baseline: true,
        rows: vec![quantised, pruned],
    }
}

#[test]
fn the_table_is_aligned_and_shows_changes() {
    assert_eq!(report().to_text(), include_str!("report.txt"));
}

#[test]
fn markdown_shows_the_same() {
    assert_eq!(report().to_markdown(), include_str!("report.md"));
}

#[test]
fn json_loses_nothing() {
    let report = report();
    assert_eq!(serde_json::from_str::<Report>(&report.to_json().unwrap()).unwrap(), report);
}

#[test]
fn the_page_needs_nothing_and_trusts_no_name() {
    let page = report().to_html();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    assert!(page.contains("pruned|75 &lt;b&gt;") && !page.contains("<b>"));
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"));
    assert_eq!(page.matches("<th").count(), page.matches("<td").count() / 2 + 1, "the word thead counts too");
}

#[test]
fn without_a_baseline_nothing_is_compared() {
    let mut report = report();
    report.has_baseline = false;
    let text = report.to_text();
    assert!(!text.contains("(+") && !text.contains("parentheses") && !text.contains("fewer parameters"));
}
