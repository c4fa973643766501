//! Runs as a table, and one run with its stages.

use serde_json::Value;

use crate::admin::{Admin, cell, table};

/// Digits of a hash in a table.
const DIGITS: usize = 8;

/// All runs.
pub(super) fn table_of(admin: &Admin, answer: &Value) -> String {
    let rows: Vec<_> = answer["runs"].as_array().into_iter().flatten().map(|run| row(admin, run)).collect();
    if rows.is_empty() {
        return "no recipe has been run\n".to_owned();
    }
    table(
        &[
            "ID ",
            "RECIPE",
            "MODEL",
            "STATE",
            "AT",
            "RECIPE HASH",
            "TEXTS",
            "UNPRUNED",
            "RESULT",
            "PARAMETERS",
            "FIGURES",
            "REPORT",
        ],
        &rows,
    )
}

fn row(admin: &Admin, run: &Value) -> Vec<String> {
    let result = &run["result"];
    vec![
        cell(&run["id"]),
        cell(&run["recipe"]),
        address(run),
        cell(&run["state"]),
        place(run).unwrap_or_else(|| "-".to_owned()),
        short(&run["recipe_sha256"]),
        texts(run).iter().map(|text| short(&text["sha256"])).collect::<Vec<_>>().join(" "),
        short(&result["unpruned_sha256"]),
        short(&result["model"]["sha256"]),
        change(&result["before"]["parameters"], &result["after"]["parameters"]),
        figures(result).into_iter().next().unwrap_or_else(|| "-".to_owned()),
        run["reports"][0].as_str().map_or_else(|| "-".to_owned(), |path| admin.address(path)),
    ]
}

/// One run.
pub(super) fn details(admin: &Admin, run: &Value) -> String {
    let result = &run["result"];
    let mut lines = vec![
        ("run", cell(&run["id"])),
        ("recipe", format!("{} (SHA-256 {})", cell(&run["recipe"]), cell(&run["recipe_sha256"]))),
        ("model", format!("{} ({})", address(run), cell(&run["path"]))),
        ("state", state(run)),
    ];
    lines.extend(place(run).map(|place| ("at", place)));
    for text in texts(run) {
        lines.push(("text", format!("{} (SHA-256 {})", cell(&text["path"]), cell(&text["sha256"]))));
    }
    for component in run["components"].as_array().into_iter().flatten() {
        let digest = cell(&component["digest"]);
        lines.push(("component", format!("{} (SHA-256 {digest})", cell(&component["component"]))));
    }
    if result.is_object() {
        lines.push(("unpruned", format!("SHA-256 {}", cell(&result["unpruned_sha256"]))));
    }
    if result["model"].is_object() {
        let (path, hash) = (cell(&result["model"]["path"]), cell(&result["model"]["sha256"]));
        lines.push(("result", format!("{path} (SHA-256 {hash})")));
        lines.push(("parameters", change(&result["before"]["parameters"], &result["after"]["parameters"])));
        lines.extend(figures(result).into_iter().map(|figure| ("figure", figure)));
    }
    if result["loaded"].is_object() {
        lines.push(("serving as", format!("{}@{}", cell(&run["model"]), cell(&result["loaded"]["variant"]))));
    }
    for report in run["reports"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        lines.push(("report", admin.address(report)));
    }
    let mut text: String = lines.iter().map(|(name, value)| format!("{name:<12}{value}\n")).collect();
    let stages: Vec<_> = result["stages"].as_array().into_iter().flatten().map(stage).collect();
    if !stages.is_empty() {
        text += &format!("\n{}", table(&["STAGE", "GATES", "PARAMETERS ", "FIGURES"], &stages));
    }
    text
}

fn stage(stage: &Value) -> Vec<String> {
    let figures = &stage["figures"];
    let measured = figures["measurements"].as_array().into_iter().flatten();
    let measured = measured.map(|found| format!("{} {}", cell(&found["name"]), number(&found["value"])));
    let gates = if stage["passed"].as_bool() == Some(false) { "failed" } else { "passed" };
    vec![
        cell(&stage["name"]),
        gates.to_owned(),
        cell(&figures["parameters"]),
        measured.collect::<Vec<_>>().join(", "),
    ]
}

fn address(run: &Value) -> String {
    format!("{}@{}", cell(&run["model"]), cell(&run["variant"]))
}

fn texts(run: &Value) -> &[Value] {
    run["texts"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// With the reason where it failed.
fn state(run: &Value) -> String {
    match run["error"].as_str() {
        Some(error) => format!("{}: {error}", cell(&run["state"])),
        None => cell(&run["state"]),
    }
}

/// The stage and what it is doing, while the run is under way.
pub(super) fn place(run: &Value) -> Option<String> {
    let stage = &run["stage"];
    if !stage.is_object() || !matches!(run["state"].as_str(), Some("queued" | "running")) {
        return None;
    }
    let mut text = format!("{}/{} {}", stage["number"], stage["stages"], cell(&stage["name"]));
    if let (Some(cut), Some(cuts)) = (stage["cut"].as_u64(), stage["cuts"].as_u64()) {
        text += &format!(", cut {cut}/{cuts}");
    }
    Some(text + &format!(": {}", cell(&stage["activity"])))
}

/// Loss and speed of training; empty while something else is done.
pub(super) fn training(run: &Value) -> String {
    let stage = &run["stage"];
    match (stage["loss"].as_f64(), stage["tokens_per_second"].as_f64()) {
        (Some(loss), Some(speed)) => format!("loss {loss:.4}, {speed:.0} tokens/s"),
        _ => String::new(),
    }
}

/// What was measured before and after.
fn figures(result: &Value) -> Vec<String> {
    let list = |part: &str| result[part]["measurements"].as_array().cloned().unwrap_or_default();
    let before = list("before");
    let line = |found: &Value| {
        let old = before.iter().find(|old| old["name"] == found["name"]);
        let value = number(&found["value"]);
        match old {
            Some(old) => format!("{} {} -> {value}", cell(&found["name"]), number(&old["value"])),
            None => format!("{} {value}", cell(&found["name"])),
        }
    };
    list("after").iter().map(line).collect()
}

fn change(before: &Value, after: &Value) -> String {
    match (before.as_u64(), after.as_u64()) {
        (Some(before), Some(after)) => format!("{before} -> {after}"),
        _ => "-".to_owned(),
    }
}

fn number(value: &Value) -> String {
    value.as_f64().map_or_else(|| cell(value), |value| format!("{value:.4}"))
}

fn short(hash: &Value) -> String {
    let hash = cell(hash);
    hash.get(..DIGITS).unwrap_or(&hash).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_says_where_it_is_and_what_changed() {
        let mut run = json!({
            "state": "running", "done": 3, "total": 8,
            "stage": {"number": 1, "stages": 3, "name": "channels", "cut": 2, "cuts": 4, "activity": "calibrate"},
        });
        assert_eq!(place(&run).as_deref(), Some("1/3 channels, cut 2/4: calibrate"));
        assert_eq!(training(&run), "");
        run["stage"] = json!({"number": 2, "stages": 3, "name": "lora", "activity": "train", "loss": 2.5, "tokens_per_second": 99.6});
        assert_eq!(
            (place(&run).unwrap(), training(&run)),
            ("2/3 lora: train".to_owned(), "loss 2.5000, 100 tokens/s".to_owned())
        );
        run["state"] = json!("succeeded");
        assert_eq!(place(&run), None);
        let result = json!({
            "before": {"measurements": [{"name": "perplexity.stride", "value": 12.0}]},
            "after": {"measurements": [{"name": "perplexity.stride", "value": 13.5}, {"name": "agreement.kl", "value": 0.25}]},
        });
        assert_eq!(figures(&result), ["perplexity.stride 12.0000 -> 13.5000", "agreement.kl 0.2500"]);
    }
}
