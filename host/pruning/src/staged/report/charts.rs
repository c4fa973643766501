//! Charts as SVG inside the page, without anything from outside.

use std::fmt::Write as _;

use espalier_evaluation::{Language, Row, escape};

use super::removal::unit_name;
use crate::plan::Plan;
use crate::search::{Cost, Search};
use crate::staged::Importance;

use super::removal::kept;

/// One small chart for each measurement, over the stages.
pub(super) fn curves(rows: &[Row], language: Language) -> String {
    let mut text = String::new();
    let Some(first) = rows.first() else { return text };
    let parameters: Vec<f64> = rows.iter().map(|row| row.parameters as f64).collect();
    text += &curve(language.choose("parameters", "参数量"), &parameters);
    let names = rows.iter().flat_map(|row| &row.measurements).map(|found| found.name.as_str());
    let mut seen: Vec<&str> = Vec::new();
    for name in names {
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let values = rows.iter().map(|row| measured(row, name));
        // Agreement with the unpruned model is nothing that the unpruned model has.
        let skipped = usize::from(measured(first, name).is_none());
        if let Some(values) = values.skip(skipped).collect::<Option<Vec<f64>>>() {
            text += &curve(name, &values);
        }
    }
    text
}

fn measured(row: &Row, name: &str) -> Option<f64> {
    row.measurements.iter().find(|found| found.name == name).map(|found| found.value)
}

fn figure(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.4}") }
}

/// Nothing where there is one value alone.
fn curve(name: &str, values: &[f64]) -> String {
    let ([first, _, ..], Some(last)) = (values, values.last()) else { return String::new() };
    let scale = Scale::of(values.iter().copied());
    let steps = values.len().saturating_sub(1).max(1);
    let mut points = String::new();
    for (index, value) in values.iter().enumerate() {
        let x = 10.0 + 280.0 * index as f64 / steps as f64;
        let _ = write!(points, "{x:.1},{:.1} ", 90.0 - 70.0 * scale.place(*value));
    }
    format!(
        "<figure><svg width=\"300\" height=\"100\" role=\"img\" aria-label=\"{0}\"><polyline points=\"{points}\" \
         fill=\"none\" stroke=\"#2a7\" stroke-width=\"2\"/></svg><figcaption><b>{0}</b> {1} → {2}</figcaption></figure>\n",
        escape(name),
        figure(*first),
        figure(*last),
    )
}

/// A range of values.
struct Scale {
    least: f64,
    range: f64,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let most = values.fold(f64::NEG_INFINITY, f64::max);
        Self { least, range: (most - least).max(f64::MIN_POSITIVE) }
    }

    /// Where a value is in it, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        ((value - self.least) / self.range).clamp(0.0, 1.0)
    }
}

/// A point of a plot: what it costs, how much worse it is, its name, and whether it is marked.
struct Point {
    x: f64,
    y: f64,
    name: String,
    marked: bool,
}

/// All models by bytes and the first measurement; those that no other one beats in both are filled.
pub(super) fn models(rows: &[Row], language: Language) -> String {
    let Some(name) = rows.first().and_then(|row| row.measurements.first()).map(|found| found.name.clone())
    else {
        return String::new();
    };
    let found: Vec<(f64, f64, &str)> = rows
        .iter()
        .filter_map(|row| Some((row.weight_bytes as f64, measured(row, &name)?, row.name.as_str())))
        .collect();
    let beaten = |x: f64, y: f64| found.iter().any(|&(a, b, _)| a <= x && b <= y && (a < x || b < y));
    let points = found.iter().map(|&(x, y, name)| Point {
        x,
        y,
        name: format!("{name}: {:.1} MB, {}", x / 1e6, figure(y)),
        marked: !beaten(x, y),
    });
    let caption = match language {
        Language::English => {
            format!("{name} by bytes of the weights; filled: no model is smaller and better")
        }
        Language::Chinese => format!("{name} 与权重字节数；实心点：没有既更小又更好的模型"),
    };
    plot(&points.collect::<Vec<_>>(), false, &|bytes| format!("{:.1} MB", bytes / 1e6), &caption)
}

/// The choices of a search that nothing beats, with the one that was taken filled.
pub(super) fn front(search: &Search, language: Language) -> String {
    let cost = search.budgets.list().first().map_or(Cost::Parameters, |budget| budget.cost);
    let whole = search.unpruned.cost(cost).max(f64::MIN_POSITIVE);
    let point = |candidate: &crate::search::Candidate, marked| Point {
        x: candidate.cost(cost) / whole,
        y: candidate.predicted_rise,
        name: format!(
            "{:.1} %, × {:.3}: {}",
            100.0 * candidate.cost(cost) / whole,
            candidate.predicted_rise.exp(),
            candidate
                .counts
                .iter()
                .map(|(unit, count)| format!("{unit}={count}"))
                .collect::<Vec<_>>()
                .join(" ")
        ),
        marked,
    };
    let mut points: Vec<Point> = search.front.iter().map(|candidate| point(candidate, false)).collect();
    points.push(point(&search.chosen, true));
    let (predicted, measured) = (search.chosen.predicted_rise.exp(), search.measured_rise.exp());
    let caption = match language {
        Language::English => format!(
            "Predicted rise of the loss by {}, before recovery, within {}; filled: taken, perplexity × {predicted:.3} \
             predicted and × {measured:.3} measured",
            cost.name(),
            search.budgets
        ),
        Language::Chinese => format!(
            "预测的损失上升与 {}（恢复之前），限制 {}；实心点：所选方案，困惑度预测 × {predicted:.3}，实测 × {measured:.3}",
            cost.name(),
            search.budgets
        ),
    };
    plot(&points, true, &|share| format!("{:.0} %", 100.0 * share), &caption)
}

/// `cost` writes a value of the horizontal axis.
fn plot(points: &[Point], line: bool, cost: &dyn Fn(f64) -> String, caption: &str) -> String {
    if points.len() < 2 {
        return String::new();
    }
    let (xs, ys) =
        (Scale::of(points.iter().map(|point| point.x)), Scale::of(points.iter().map(|point| point.y)));
    let place = |point: &Point| (70.0 + 380.0 * xs.place(point.x), 175.0 - 155.0 * ys.place(point.y));
    let mut text =
        "<figure><svg width=\"480\" height=\"215\" role=\"img\"><path d=\"M60 5V190H470\" fill=\"none\" \
                    stroke=\"#8888\"/>"
            .to_owned();
    for (x, y, anchor, value) in [
        (70, 206, "start", cost(xs.least)),
        (450, 206, "end", cost(xs.least + xs.range)),
        (54, 179, "end", format!("{:.2}", ys.least)),
        (54, 24, "end", format!("{:.2}", ys.least + ys.range)),
    ] {
        let _ = write!(
            text,
            "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" font-size=\"11\" fill=\"currentColor\">{}</text>",
            escape(&value)
        );
    }
    if line {
        let path = points.iter().filter(|point| !point.marked).map(place);
        let path: Vec<String> = path.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(text, "<polyline points=\"{}\" fill=\"none\" stroke=\"#2a78\"/>", path.join(" "));
    }
    for point in points {
        let (x, y) = place(point);
        let fill = if point.marked { "#2a7" } else { "none" };
        let _ = write!(
            text,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{fill}\" stroke=\"#2a7\"><title>{}</title></circle>",
            escape(&point.name)
        );
    }
    text + &format!("</svg><figcaption>{}</figcaption></figure>\n", escape(caption))
}

/// One column for each layer; the darker, the more of it stayed.
pub(super) fn kept_map(plan: &Plan, language: Language) -> String {
    let mut text = String::new();
    for (unit, shares) in kept(plan) {
        let (name, width) = (unit_name(unit, language), shares.len() * 18);
        text += &format!("<figure><svg width=\"{width}\" height=\"18\" role=\"img\">");
        for (layer, share) in shares.iter().enumerate() {
            let title = match language {
                Language::English => format!("layer {layer}: {:.1} % of {name} stay", share * 100.0),
                Language::Chinese => format!("第 {layer} 层：保留 {:.1} % 的{name}", share * 100.0),
            };
            text += &cell(layer as f64 * 18.0, 0.0, 17.0, 17.0, *share, &title);
        }
        let caption = match language {
            Language::English => format!("{name} that stay, by layer"),
            Language::Chinese => format!("各层保留的{name}"),
        };
        text += &format!("</svg><figcaption>{caption}</figcaption></figure>\n");
    }
    text
}

/// One row for each layer; the darker, the more important, by the rank of the score within the kind.
pub(super) fn importance_map(found: &Importance, language: Language) -> String {
    let (rows, columns) = (found.layers.len(), found.layers.iter().map(Vec::len).max().unwrap_or(0));
    if columns == 0 {
        return String::new();
    }
    let mut sorted: Vec<f64> = found.layers.iter().flatten().copied().collect();
    sorted.sort_by(f64::total_cmp);
    let rank = |score: f64| {
        sorted.partition_point(|other| *other < score) as f64 / sorted.len().saturating_sub(1).max(1) as f64
    };
    let (width, height) = (if columns > 32 { 8 } else { 14 }, if rows > 40 { 6 } else { 9 });
    let mut text =
        format!("<figure><svg width=\"{}\" height=\"{}\" role=\"img\">", columns * width, rows * height);
    for (layer, scores) in found.layers.iter().enumerate() {
        for (column, score) in scores.iter().enumerate() {
            let (x, y) = ((column * width) as f64, (layer * height) as f64);
            let title = match language {
                Language::English => format!("layer {layer}, {column}: {score:.4e}"),
                Language::Chinese => format!("第 {layer} 层，{column}：{score:.4e}"),
            };
            text += &cell(x, y, width as f64 - 1.0, height as f64 - 1.0, rank(*score), &title);
        }
    }
    let name = unit_name(found.unit, language);
    let grouped = found.units > columns;
    let caption = match (language, grouped) {
        (Language::English, true) => format!(
            "importance of {name}: a row for each layer, its {} by falling score in {columns} groups",
            found.units
        ),
        (Language::English, false) => format!("importance of {name}: a row for each layer"),
        (Language::Chinese, true) => {
            format!("{name}的重要性：每层一行，{} 个按得分从高到低分为 {columns} 组", found.units)
        }
        (Language::Chinese, false) => format!("{name}的重要性：每层一行"),
    };
    text + &format!("</svg><figcaption>{caption}</figcaption></figure>\n")
}

fn cell(x: f64, y: f64, width: f64, height: f64, share: f64, title: &str) -> String {
    format!(
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"#2a7\" fill-opacity=\"{share:.3}\" \
         stroke=\"#8884\"><title>{}</title></rect>",
        escape(title)
    )
}
