//! The report in its four forms.

use espalier_components::Measurement;
use espalier_evaluation::{Language, Report, Row, TextRecord, Timing, TimingRequest};

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
        answers: Vec::new(),
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
        prompts: Vec::new(),
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
    assert_eq!(report().to_markdown(Language::English), include_str!("report.md"));
}

#[test]
fn chinese_says_the_same() {
    let text = report().to_markdown(Language::Chinese);
    assert_eq!(text.lines().count(), report().to_markdown(Language::English).lines().count());
    assert!(
        text.contains("| 模型 | 格式 | 参数量 |") && text.contains("字节和速度应在相同格式下比较"),
        "{text}"
    );
}

#[test]
fn json_loses_nothing() {
    let report = report();
    assert_eq!(serde_json::from_str::<Report>(&report.to_json().unwrap()).unwrap(), report);
}

#[test]
fn the_page_needs_nothing_and_trusts_no_name() {
    let mut report = report();
    report.prompts = vec!["Why <i>?".to_owned()];
    for row in &mut report.rows {
        row.answers = vec![format!("{} & more", row.name)];
    }
    let page = report.to_html();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    assert!(page.contains("pruned|75 &lt;b&gt;") && !page.contains("<b>"));
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"));
    // In each language a table of two models, and one of a prompt and its answers.
    let (titles, cells) =
        (page.matches("<th>").count() + page.matches("<th class").count(), page.matches("<td").count());
    assert_eq!((titles - 6, cells - 6), (2 * 10, 2 * 20));
    assert!(page.contains("Why &lt;i&gt;?") && page.contains("original &amp; more"));
    assert!(page.contains("<main class=\"zh\" lang=\"zh\">") && page.contains("评测：test.txt"));
}

#[test]
fn without_a_baseline_nothing_is_compared() {
    let mut report = report();
    report.has_baseline = false;
    let text = report.to_text();
    assert!(!text.contains("(+") && !text.contains("parentheses") && !text.contains("fewer parameters"));
}
