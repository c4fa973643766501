//! Endpoints that are components, over HTTP, with the server's own engines behind them.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use espalier_components::{HostConfig, Limits};
use serde_json::{Value, json};

use crate::connection::Connection;
use crate::guests;
use crate::host::{Answer, Host, MODEL, Setup, eventually};

const HOSTILE: &str = "fixture-hostile-endpoint";

fn host() -> Host {
    Host::with(Setup { models: vec![(MODEL, "original"), (MODEL, "small")], ..Setup::default() })
}

fn deploy(host: &Host, query: &str, name: &str) -> Answer {
    host.post_bytes(&format!("/admin/v1/components{query}"), "application/wasm", &guests::bytes(name))
}

fn events(text: &str) -> Vec<(String, Value)> {
    let frames = text.split("\n\n").filter(|frame| !frame.is_empty());
    frames
        .map(|frame| {
            let (event, data) = frame.split_once('\n').unwrap();
            let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            (event.strip_prefix("event: ").unwrap().to_owned(), data)
        })
        .collect()
}

fn calls(host: &Host, component: &str, outcome: &str) -> f64 {
    let slot = component.trim_start_matches("fixture-");
    host.series(&format!(
        r#"espalier_component_calls_total{{component="{component}",outcome="{outcome}",slot="ext/{slot}",version="0.1.0"}}"#
    ))
}

#[test]
fn two_variants_are_compared_and_counted_as_any_request() {
    let host = host();
    let deployed = deploy(&host, "", "compare").success();
    assert_eq!(deployed["activation"]["slot"], "ext/compare");
    let asked =
        json!({"prompt": "four", "variants": ["original", "tiny@small"], "max_tokens": 8, "temperature": 0});
    let answer = host.post("/ext/compare", &asked);
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"), "{}", answer.text);
    let events = events(&answer.text);
    for (variant, name) in [("tiny@original", "original"), ("tiny@small", "small")] {
        let pieces = events.iter().filter(|(event, data)| event == "piece" && data["variant"] == variant);
        let text: String = pieces.map(|(_, data)| data["text"].as_str().unwrap()).collect();
        let body = json!({"model": variant, "prompt": "four", "max_tokens": 8, "temperature": 0});
        let alone = host.post("/v1/completions", &body).success();
        assert_eq!(text, alone["choices"][0]["text"], "{variant}");
        let figures = events.iter().find(|(event, data)| event == "figures" && data["variant"] == variant);
        let (_, figures) = figures.unwrap();
        assert_eq!(figures["tokens"], alone["usage"]["completion_tokens"]);
        assert!(figures["first_token_ms"].as_f64().unwrap() > 0.0, "{figures}");
        let routed = format!(r#"espalier_routed_requests_total{{by="pin",model="tiny",variant="{name}"}}"#);
        assert_eq!(host.series(&routed), 2.0, "once by the endpoint, once from outside");
    }
    assert_eq!(calls(&host, "compare", "ok"), 1.0);
    assert_eq!(
        host.series(r#"espalier_http_requests_total{method="POST",route="/ext/{name}",status="200"}"#),
        1.0
    );
}

#[test]
fn wrong_requests_are_refused_in_the_hosts_shape() {
    let host = host();
    deploy(&host, "", "compare").success();
    let wrong = host.post("/ext/compare", &json!({"prompt": 4, "variants": ["original"]}));
    wrong.is_refused(400, Some("prompt"), "invalid_value");
    let unknown = host.post("/ext/compare", &json!({"prompt": "x", "variants": ["original", "medium"]}));
    unknown.is_refused(404, Some("variants"), "model_not_found");
    assert!(
        unknown.message().contains("found medium, expected tiny@original, tiny@small"),
        "{}",
        unknown.text
    );
    host.post_bytes("/ext/compare", "text/plain", b"{").is_refused(400, Some("body"), "invalid_value");
    let long = json!({"prompt": "x", "variants": ["original"], "max_tokens": 100_000});
    // More than one call may generate at all, and more than the context holds.
    host.post("/ext/compare", &json!({"prompt": "x", "variants": ["original"], "max_tokens": 9_999}))
        .is_refused(400, None, "invalid_value");
    assert_eq!(host.post("/ext/compare", &long).status, 400);
    host.post("/ext/other", &json!({})).is_refused(404, None, "not_found");
    // Only the public listener has endpoints: the admin listener's token is nothing for them.
    let mut admin = Connection::open(host.admin());
    admin.get("/ext/compare");
    assert!(admin.read_until("error").starts_with("HTTP/1.1 404"));
}

#[test]
fn a_client_that_leaves_ends_its_sessions() {
    let host = host();
    deploy(&host, "", "compare").success();
    let used = |variant: &str, generation: u32| {
        host.series(&format!(
            r#"espalier_kv_cache_blocks{{generation="{generation}",model="tiny",state="used",variant="{variant}"}}"#
        ))
    };
    for attempt in 0..20 {
        let asked = json!({
            "prompt": format!("prompt {attempt}"), "variants": ["original", "small"], "max_tokens": 240,
            "temperature": 1.5, "seed": attempt,
        });
        let mut connection = Connection::open(host.public());
        connection.post("/ext/compare", &asked.to_string());
        assert!(connection.read_until("event: piece").starts_with("HTTP/1.1 200"));
        drop(connection);
        eventually(|| (used("original", 1) + used("small", 2) == 0.0).then_some(()));
        if calls(&host, "compare", "abandoned") > 0.0 {
            host.complete(MODEL).success();
            return;
        }
    }
    panic!("no call was abandoned");
}

fn strict() -> Setup {
    let endpoint = Limits {
        guest_time: Duration::from_millis(100),
        wall_time: Duration::from_secs(30),
        request_bytes: 1000,
        concurrent_calls: 1,
        ..Limits::endpoint()
    };
    Setup { components: HostConfig { endpoint, ..HostConfig::default() }, ..Setup::default() }
}

#[test]
fn a_guest_that_misbehaves_costs_its_client_the_response_and_nobody_else_anything() {
    let host = Host::with(strict());
    deploy(&host, "?slot=ext/hostile-endpoint", HOSTILE).success();
    for (path, words) in [
        ("loop", "it computed for longer than 100ms"),
        ("trap", "trapped in"),
        ("nothing", "no response"),
        ("error", "LoopDetected"),
    ] {
        let answer = host.get(&format!("/ext/hostile-endpoint/{path}"));
        answer.is_refused(502, None, "endpoint_failed");
        assert!(answer.message().contains(words) && answer.message().contains(HOSTILE), "{}", answer.text);
    }
    assert_eq!(calls(&host, HOSTILE, "guest_time"), 1.0);
    let large = vec![b'x'; 1001];
    host.post_bytes("/ext/hostile-endpoint/echo", "text/plain", &large).is_refused(
        413,
        None,
        "payload_too_large",
    );
    let fitting = host.post_bytes("/ext/hostile-endpoint/a/b?c=d", "text/plain", &large[..1000]);
    assert_eq!((fitting.status, fitting.text.as_str()), (200, "/a/b c=d /ext/hostile-endpoint 1000"));
    // A client that stops reading holds the only place.
    let mut held = Connection::open(host.public());
    held.get("/ext/hostile-endpoint/endless");
    held.read_until("xxxx");
    let busy = host.get("/ext/hostile-endpoint/echo");
    busy.is_refused(429, None, "queue_full");
    assert_eq!(busy.header("retry-after"), "1");
    drop(held);
    eventually(|| (host.get("/ext/hostile-endpoint/echo").status == 200).then_some(()));
    host.complete(MODEL).success();
}

#[test]
fn the_network_is_closed_unless_the_deployment_opens_it() {
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = peer.local_addr().unwrap().to_string();
    let host = host();
    deploy(&host, "?slot=ext/hostile-endpoint", HOSTILE).success();
    let fetch = format!("/ext/hostile-endpoint/fetch?{authority}");
    assert!(host.get(&fetch).text.contains("HttpRequestDenied"));
    let inspected = host.get(&format!("/admin/v1/components/{HOSTILE}")).success();
    assert_eq!(inspected["grants"], json!([]));

    let grant = |hosts: Value| {
        let body = json!({"slot": "ext/hostile-endpoint", "component": HOSTILE, "granted_hosts": hosts});
        host.post("/admin/v1/slots/activate", &body)
    };
    for wrong in [json!(["*"]), json!(["http://a"]), json!("a"), json!([1])] {
        grant(wrong).is_refused(400, Some("granted_hosts"), "invalid_value");
    }
    assert_eq!(grant(json!([authority])).success()["granted_hosts"], json!([authority]));
    let inspected = host.get(&format!("/admin/v1/components/{HOSTILE}")).success();
    assert_eq!(inspected["grants"], json!([format!("host:{authority}")]));
    assert_eq!(inspected["places"][0]["granted_hosts"], json!([authority]));
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = peer.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").unwrap();
    });
    assert_eq!(host.get(&fetch).text, "hello");
    answering.join().unwrap();
    // Going back takes the grant away again.
    host.post("/admin/v1/slots/rollback", &json!({"slot": "ext/hostile-endpoint"})).success();
    assert!(host.get(&fetch).text.contains("HttpRequestDenied"));
}

#[test]
fn endpoints_are_tried_promoted_restored_and_drained_as_all_components() {
    let host = host();
    deploy(&host, "?slot=ext/x", "no-op").success();
    deploy(&host, "?activate=false", HOSTILE).success();
    let canary = json!({"slot": "ext/x", "component": HOSTILE, "weight": 0.5, "granted_hosts": ["a:1"]});
    let tried = host.post("/admin/v1/slots/canary", &canary).success();
    assert_eq!(tried["canary"]["granted_hosts"], json!(["a:1"]));
    let answers: Vec<String> = (0..20).map(|_| host.get("/ext/x/y").text).collect();
    let of_no_op = answers.iter().filter(|answer| *answer == "ok").count();
    assert!((8..=12).contains(&of_no_op), "{answers:?}");
    host.post("/admin/v1/slots/promote", &json!({"slot": "ext/x"})).success();
    let mut host = host.restart(Setup::default());
    assert_eq!(host.get("/ext/x/y").text, "/y  /ext/x 0");
    // A call in flight goes on to its own end, which is the limit here.
    let mut streaming = Connection::open(host.public());
    streaming.get("/ext/x/endless");
    let begun = streaming.read_until("xxxx");
    host.application.begin_drain();
    let all = begun.len() + streaming.read_to_end().len();
    assert!(all > Limits::endpoint().response_bytes as usize, "{all}");
    host.join();
}
