//! `espalier component test`: a component at work without a model or a host.
//!
//! Each world has its input (recorded traces, requests with variants, samples, requests of HTTP), and the answers are JSON lines, so that a
//! file of them is what a later run is held to.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use espalier_components::{
    Component, Configuration, EvaluationMetric, GrantedHosts, Host, HostConfig, HttpEndpoint, RequestRouter,
    RouteRequest, ScoringPolicy, Unit, VariantStatus, World, find_component, read_component,
};
use espalier_evaluation::EvaluationData;
use espalier_pruning::RecordedTraces;
use http::{HeaderMap, Request, header};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::even_model;
use super::scripted_models::{ScriptedModels, ScriptedVariant};

/// How far a number may be from the expected one, relative to it where it is above 1.
const TOLERANCE: f64 = 1e-6;

/// Options of `component test`.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Path ending in .wasm, or the name of a built-in component.
    component: String,
    /// For a scoring policy: traces that `component record` wrote.
    #[arg(long, value_name = "FILE.safetensors", group = "input")]
    traces: Option<PathBuf>,
    /// For a router: an object with `configuration` and `requests`, each with `request` and `variants`. For an endpoint: an
    /// object with `requests`, each with `method`, `path`, `headers` and `body`, and with `variants`, each with `model`, `name`
    /// and the pieces of its `answer`.
    #[arg(long, value_name = "FILE.json", group = "input")]
    requests: Option<PathBuf>,
    /// For a metric: samples with candidates (.jsonl), or a text; every byte of it is equally probable.
    #[arg(long, value_name = "FILE", group = "input")]
    samples: Option<PathBuf>,
    /// The kinds of units to score [default: all that the policy scores].
    #[arg(long, value_delimiter = ',', value_name = "KIND", requires = "traces")]
    units: Vec<Unit>,
    /// Fail unless the answers are these: lines that this command printed.
    #[arg(long, value_name = "FILE.jsonl")]
    expect: Option<PathBuf>,
}

/// Runs `component test`.
pub(super) fn run(args: &Args) -> Result<()> {
    let path = find_component(&args.component)?;
    let label = path.file_name().unwrap_or_default().to_string_lossy();
    let component = Host::new(HostConfig::default())?.load(&label, &read_component(&path)?, None)?;
    let input = |given: &Option<PathBuf>, option: &str| {
        let world = component.world();
        given
            .clone()
            .with_context(|| format!("{label} has the world {world}, expected {option} FILE with it"))
    };
    let answers = match component.world() {
        World::ScoringPolicy => scores(component.clone(), &input(&args.traces, "--traces")?, &args.units)?,
        World::RequestRouter => choices(component.clone(), &input(&args.requests, "--requests")?)?,
        World::EvaluationMetric => figures(component.clone(), &input(&args.samples, "--samples")?)?,
        World::HttpEndpoint => responses(component.clone(), &input(&args.requests, "--requests")?)?,
        world => bail!("{label} has the world {world}, which this command does not know"),
    };
    let mut out = stdout().lock();
    for answer in &answers {
        writeln!(out, "{answer}")?;
    }
    out.flush().context("standard output was closed")?;
    match &args.expect {
        Some(path) => check(&answers, path),
        None => Ok(()),
    }
}

/// One line for each kind of unit and layer.
fn scores(component: Component, path: &Path, units: &[Unit]) -> Result<Vec<Value>> {
    let policy = ScoringPolicy::new(component)?;
    let traces = RecordedTraces::read(path).with_context(|| format!("--traces {}", path.display()))?;
    let units = match units {
        [] => policy.units().iter().map(|scored| scored.unit).collect(),
        named => named.to_vec(),
    };
    let scores = traces.score(&policy, &units)?;
    let lines = units.iter().flat_map(|unit| {
        let layers = scores.get(*unit).unwrap_or_default().iter().enumerate();
        layers.map(move |(layer, scores)| json!({"unit": unit, "layer": layer, "scores": scores}))
    });
    Ok(lines.collect())
}

/// The file of a router's test.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Requests {
    #[serde(default)]
    configuration: BTreeMap<String, String>,
    requests: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    request: RouteRequest,
    variants: Vec<VariantStatus>,
}

/// The file of an endpoint's test.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exchange {
    #[serde(default)]
    variants: Vec<ScriptedVariant>,
    requests: Vec<HttpRequest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpRequest {
    method: String,
    /// Below the endpoint's own, with its query.
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
}

/// One line for each request: status, headers and body of the response.
fn responses(component: Component, path: &Path) -> Result<Vec<Value>> {
    let file: Exchange = read_requests(path)?;
    let endpoint = HttpEndpoint::new(component, GrantedHosts::default())?;
    let models = Arc::new(ScriptedModels::new(file.variants));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(1).build()?;
    let response = |(index, asked): (usize, HttpRequest)| {
        let request = asked.request().with_context(|| format!("requests[{index}]"))?;
        let (head, body) = runtime
            .block_on(async {
                let (head, body) = endpoint.handle(request, models.clone()).await?.into_parts();
                let body = body.collect().await.map_err(anyhow::Error::from_boxed)?.to_bytes();
                Ok::<_, anyhow::Error>((head, body))
            })
            .with_context(|| format!("requests[{index}]"))?;
        let body = String::from_utf8_lossy(&body);
        Ok(json!({"status": head.status.as_u16(), "headers": texts(&head.headers), "body": body}))
    };
    file.requests.into_iter().enumerate().map(response).collect()
}

impl HttpRequest {
    /// The request as the host would hand it on.
    fn request(self) -> Result<Request<Bytes>> {
        let mut request = Request::builder().method(self.method.as_str()).uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut request = request.body(Bytes::from(self.body))?;
        request.headers_mut().entry(header::HOST).or_insert(header::HeaderValue::from_static("localhost"));
        Ok(request)
    }
}

/// Names with values, those of the same name joined.
fn texts(headers: &HeaderMap) -> BTreeMap<&str, String> {
    let mut texts = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in headers {
        texts.entry(name.as_str()).or_default().push(String::from_utf8_lossy(value.as_bytes()));
    }
    texts.into_iter().map(|(name, values)| (name, values.join(", "))).collect()
}

/// The file after `--requests`.
fn read_requests<File: serde::de::DeserializeOwned>(path: &Path) -> Result<File> {
    let text =
        fs::read_to_string(path).with_context(|| format!("--requests {} cannot be read", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("--requests {}", path.display()))
}

/// One line for each request: names of variants in the order in which they are tried.
fn choices(component: Component, path: &Path) -> Result<Vec<Value>> {
    let file: Requests = read_requests(path)?;
    let router = RequestRouter::new(component, &Configuration::new(file.configuration)?)?;
    let choice = |(index, case): (usize, &Case)| {
        ensure!(!case.variants.is_empty(), "requests[{index}].variants is empty, expected at least one");
        let choice = router.route(&case.request, &case.variants)?;
        let name = |index: usize| case.variants.get(index).map(|variant| &variant.name);
        let order: Vec<_> = choice.order.iter().map(|index| name(*index)).collect();
        let shadow =
            choice.shadow.map(|shadow| json!({"variant": name(shadow.variant), "share": shadow.share}));
        Ok(json!({"order": order, "shadow": shadow}))
    };
    file.requests.iter().enumerate().map(choice).collect()
}

/// One line for each figure, then one for each note.
fn figures(component: Component, path: &Path) -> Result<Vec<Value>> {
    let data = EvaluationData::read(path).with_context(|| format!("--samples {}", path.display()))?;
    let report = EvaluationMetric::new(component)?
        .evaluate(even_model::inputs(data.text(), data.samples().clone()))?;
    let mut lines = report.measurements.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    lines.extend(report.notes.iter().map(|note| json!({ "note": note })));
    Ok(lines)
}

/// Fails at the first line that is another one.
fn check(found: &[Value], path: &Path) -> Result<()> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("--expect {shown} cannot be read"))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let expected: Vec<Value> = lines
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .with_context(|| format!("--expect {shown} is not JSON lines"))?;
    ensure!(
        found.len() == expected.len(),
        "found {} answers, --expect {shown} has {}",
        found.len(),
        expected.len()
    );
    for (number, (found, expected)) in (1..).zip(found.iter().zip(&expected)) {
        ensure!(is_close(found, expected), "answer {number}: found {found}, expected {expected}");
    }
    Ok(())
}

/// Whether two values are the same but for the last digits of their numbers.
fn is_close(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Number(found), Value::Number(expected)) => {
            let (Some(found), Some(expected)) = (found.as_f64(), expected.as_f64()) else { return false };
            (found - expected).abs() <= TOLERANCE * expected.abs().max(1.0)
        }
        (Value::Array(found), Value::Array(expected)) => {
            found.len() == expected.len()
                && found.iter().zip(expected).all(|(found, expected)| is_close(found, expected))
        }
        (Value::Object(found), Value::Object(expected)) => {
            let is_same = |(key, value): (&String, &Value)| {
                expected.get(key).is_some_and(|known| is_close(value, known))
            };
            found.len() == expected.len() && found.iter().all(is_same)
        }
        (found, expected) => found == expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_compared_within_a_tolerance() {
        let expected = json!({"unit": "head", "scores": [0.5, 2_000_000.0]});
        assert!(is_close(&json!({"unit": "head", "scores": [0.500_000_9, 2_000_001.0]}), &expected));
        for other in [
            json!({"unit": "head", "scores": [0.500_002, 2_000_000.0]}),
            json!({"unit": "head", "scores": [0.5]}),
            json!({"unit": "layer", "scores": [0.5, 2_000_000.0]}),
            json!({"unit": "head"}),
            json!({"unit": "head", "scores": [0.5, 2_000_000.0], "more": 1}),
            json!({"unit": "head", "scores": [0.5, null]}),
        ] {
            assert!(!is_close(&other, &expected), "{other}");
        }
    }
}
