//! Endpoints: requests in, responses out, with models that need no engine.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use espalier_components::{
    ComponentError, Configuration, Deployments, EndpointBody, GrantedHosts, Host, HostConfig, HttpEndpoint,
    Provision, Slot, World,
};
use espalier_state::{Revision, State};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::guests::{bytes, load, with_other_bytes};
use crate::served_words::Words;

pub(crate) fn endpoint(host: &Host, name: &str) -> HttpEndpoint {
    HttpEndpoint::new(load(host, name).unwrap(), GrantedHosts::default()).unwrap()
}

pub(crate) fn request(method: &str, path: &str, body: &str) -> Request<Bytes> {
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    request.body(Bytes::from(body.to_owned())).unwrap()
}

pub(crate) async fn ask(
    endpoint: &HttpEndpoint,
    models: &Words,
    request: Request<Bytes>,
) -> Result<Response<EndpointBody>, ComponentError> {
    endpoint.handle(request, Arc::new(models.clone())).await
}

pub(crate) async fn text(response: Response<EndpointBody>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// The events of a stream: names and data.
fn events(text: &str) -> Vec<(String, Value)> {
    let frames = text.split("\n\n").filter(|frame| !frame.is_empty());
    frames
        .map(|frame| {
            let (event, data) = frame.split_once('\n').unwrap();
            let data = data.strip_prefix("data: ").unwrap();
            (event.strip_prefix("event: ").unwrap().to_owned(), serde_json::from_str(data).unwrap())
        })
        .collect()
}

async fn compare(models: &Words, body: &Value) -> (StatusCode, String) {
    let endpoint = endpoint(&crate::guests::host(), "compare");
    let response = ask(&endpoint, models, request("POST", "/", &body.to_string())).await.unwrap();
    (response.status(), text(response).await)
}

#[tokio::test]
async fn a_request_is_answered_by_an_instance_of_its_own() {
    let host = crate::guests::host();
    let no_op = endpoint(&host, "no-op");
    assert_eq!((no_op.component().world(), no_op.identity().name.as_str()), (World::HttpEndpoint, "no-op"));
    for _ in 0..100 {
        let response = ask(&no_op, &Words::default(), request("GET", "/x", "")).await.unwrap();
        assert_eq!((response.status(), text(response).await.as_str()), (StatusCode::OK, "ok"));
    }
}

#[tokio::test]
async fn variants_are_compared_as_their_pieces_come() {
    let models = Words::default();
    let asked = json!({"prompt": "one", "variants": ["m@slow", "fast"], "max_tokens": 12});
    let (status, text) = compare(&models, &asked).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let events = events(&text);
    let answer_of = |variant: &str| -> String {
        let pieces = events.iter().filter(|(event, data)| event == "piece" && data["variant"] == variant);
        pieces.map(|(_, data)| data["text"].as_str().unwrap()).collect()
    };
    let counted: String = (1..=12).map(|n| format!(" {n}")).collect();
    assert_eq!((answer_of("m@slow"), answer_of("m@fast")), (counted.clone(), counted));
    // The fast one is told between the pieces of the slow one.
    let order: Vec<&str> = events
        .iter()
        .filter(|(event, _)| event == "piece")
        .map(|(_, data)| data["variant"].as_str().unwrap())
        .collect();
    let changes = order.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes >= 4, "{order:?}");
    let figures: Vec<_> =
        events.iter().filter(|(event, _)| event == "figures").map(|(_, data)| data).collect();
    assert_eq!(figures.len(), 2);
    for (figures, variant) in figures.iter().zip(["m@slow", "m@fast"]) {
        assert_eq!((&figures["variant"], &figures["tokens"]), (&json!(variant), &json!(12)), "{figures}");
        assert_eq!(figures["finish_reason"], "length");
        assert!(figures["first_token_ms"].as_f64().unwrap() >= 0.0);
        assert!(figures["ms_per_token"].as_f64().unwrap() > 0.0, "{figures}");
    }
    assert_eq!(models.open.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_compare_cannot_do_is_refused_by_name() {
    let models = Words::default();
    for (body, status, field) in [
        (json!([]), 400, "body"),
        (json!({"variants": ["fast"]}), 400, "prompt"),
        (json!({"prompt": 1, "variants": ["fast"]}), 400, "prompt"),
        (json!({"prompt": "x"}), 400, "variants"),
        (json!({"prompt": "x", "variants": []}), 400, "variants"),
        (json!({"prompt": "x", "variants": ["fast", "m@fast"]}), 400, "variants"),
        (json!({"prompt": "x", "variants": ["fast", "other"]}), 404, "variants"),
        (json!({"prompt": "x", "variants": ["fast"], "max_tokens": 0}), 400, "max_tokens"),
        (json!({"prompt": "x", "variants": ["fast"], "seed": -1}), 400, "seed"),
        (json!({"prompt": "x", "variants": ["fast"], "max_token": 3}), 400, "max_token"),
    ] {
        let (found, text) = compare(&models, &body).await;
        assert_eq!(found.as_u16(), status, "{body}: {text}");
        let error = &serde_json::from_str::<Value>(&text).unwrap()["error"];
        assert_eq!(error["param"], field, "{body}: {text}");
        assert!(error["message"].as_str().unwrap().starts_with(field), "{text}");
    }
    // The host's own refusal is passed on, and what had begun already ends.
    let (status, text) =
        compare(&models, &json!({"prompt": "x", "variants": ["fast"], "max_tokens": 101})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("max_tokens: expected at most 100"), "{text}");
    assert_eq!(models.open.load(Ordering::SeqCst), 0);
    let endpoint = endpoint(&crate::guests::host(), "compare");
    for (method, path, status) in [("GET", "/", 405), ("POST", "/more", 404)] {
        let response = ask(&endpoint, &models, request(method, path, "{}")).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{method} {path}");
    }
}

#[tokio::test]
async fn sessions_end_with_the_client() {
    let models = Words::default();
    let endpoint = endpoint(&crate::guests::host(), "compare");
    let asked = json!({"prompt": "endless", "variants": ["slow", "fast"], "max_tokens": 9}).to_string();
    let response = ask(&endpoint, &models, request("POST", "/", &asked)).await.unwrap();
    let mut body = response.into_body();
    for _ in 0..8 {
        body.frame().await.unwrap().unwrap();
    }
    assert_eq!(models.open.load(Ordering::SeqCst), 2);
    drop(body);
    for _ in 0..1000 {
        if models.open.load(Ordering::SeqCst) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{} sessions are still open", models.open.load(Ordering::SeqCst));
}

#[test]
fn a_clock_is_given_to_nobody() {
    let text = r#"(component (import "wasi:clocks/monotonic-clock@0.2.0" (instance
        (export "now" (func (result u64))))))"#;
    let bytes = wat::parse_str(text).unwrap();
    let error = crate::guests::host().load("clock.wasm", &bytes, Some(World::HttpEndpoint)).unwrap_err();
    let ComponentError::WrongWorld { expected: World::HttpEndpoint, problems, .. } = &error else {
        panic!("{error}")
    };
    let problem = r#"the component imports "now" of wasi:clocks/monotonic-clock@0.2.0, which is not there"#;
    assert!(problems.iter().any(|found| found == problem), "{problems:?}");
}

fn granting(hosts: &[&str]) -> Provision {
    let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
    Provision { configuration: Configuration::default(), granted_hosts: GrantedHosts::new(hosts).unwrap() }
}

#[test]
fn grants_stand_in_the_record_and_outlive_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let state = State::open(folder.path()).unwrap();
        Deployments::open(Host::with_state(HostConfig::default(), &state).unwrap(), state).unwrap()
    };
    let slot: Slot = "ext/words".parse().unwrap();
    let deployments = open();
    let hosts = granting(&["api.example.com", "10.0.0.1:8080"]);
    let first = deployments.deploy("no-op", &bytes("no-op"), None).unwrap().record;
    deployments.configure(&slot, "no-op", &hosts, None).unwrap();
    let place = deployments.inspect("no-op").unwrap().places.remove(0);
    assert_eq!((place.slot, place.granted_hosts), (slot.clone(), hosts.granted_hosts.clone()));
    // A configuration is for routers, and a router reaches nothing.
    let told = crate::guests::configuration(&[("a", "b")]);
    let refused = deployments.configure(&slot, "no-op", &told, None).unwrap_err().to_string();
    assert!(refused.ends_with("has the world http-endpoint, which takes no configuration"), "{refused}");
    deployments.deploy("least-busy", &bytes("least-busy"), None).unwrap();
    let refused = deployments.configure(&Slot::Router, "least-busy", &hosts, None).unwrap_err().to_string();
    assert!(refused.ends_with("has the world request-router, which takes no granted hosts"), "{refused}");
    // Without a grant it is another state of the slot, to which the first one is an earlier one.
    deployments.activate(&slot, "no-op", None).unwrap();
    assert!(deployments.endpoint("words").unwrap().is_some());
    assert!(deployments.endpoint("other").unwrap().is_none());
    drop(deployments);
    let deployments = open();
    let back = deployments.roll_back(&slot, None, None).unwrap();
    assert_eq!((back.revision, back.granted_hosts), (Revision(3), hosts.granted_hosts));
    assert_eq!(back.digest, first.digest);
    let other = deployments.deploy("no-op", &with_other_bytes(bytes("no-op")), None);
    assert!(matches!(other, Err(ComponentError::VersionTaken { .. })));
}
