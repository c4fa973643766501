//! Whatever a client sends is answered by an error that names what is wrong, and the next request is served.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::running_host::RunningHost;
use crate::{http, synthetic};

fn host(folder: &tempfile::TempDir) -> RunningHost {
    let model = synthetic::model(folder.path(), 1);
    RunningHost::start(folder.path(), &[format!("{}={}", synthetic::NAME, model.display())])
}

fn completion(field: &str, value: Value) -> Value {
    let mut body = json!({"model": synthetic::NAME, "prompt": "four score", "max_tokens": 2});
    body.as_object_mut().unwrap().insert(field.into(), value);
    body
}

#[test]
fn wrong_fields_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut host = host(&folder);
    let url = host.url("/v1/completions");
    for (field, value) in [
        ("max_tokens", json!(0)),
        ("max_tokens", json!("many")),
        ("max_tokens", json!(1e30)),
        ("temperature", json!(-1)),
        ("top_p", json!(2)),
        ("seed", json!("x")),
        ("stop", json!(["a", "b", "c", "d", "e"])),
        ("stream", json!("yes")),
        ("prompt", json!({"text": "x"})),
        ("prompt", json!([[4_000_000_000_u32]])),
        ("no_such_field", json!(1)),
        ("logprobs", json!(6)),
        ("n", json!(0)),
    ] {
        let answer = http::post(&url, &completion(field, value.clone()));
        let param = answer.json()["error"]["param"].as_str().map(str::to_owned);
        answer.is_refused(400, None);
        assert!(param.is_some_and(|param| param.starts_with(field)), "{field} = {value}: {}", answer.text);
    }
    http::post(&url, &json!({"prompt": "x"})).is_refused(400, Some("model"));
    http::post(&url, &completion("model", json!("no-such-model"))).is_refused(404, Some("model"));
    host.complete(synthetic::NAME, 2).success();
    host.is_healthy();
}

#[test]
fn a_prompt_longer_than_the_context_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut host = host(&folder);
    let url = host.url("/v1/completions");
    let answer = http::post(&url, &completion("prompt", json!("x".repeat(synthetic::CONTEXT + 1))));
    answer.is_refused(400, None);
    assert_eq!(answer.json()["error"]["code"], "context_length_exceeded", "{}", answer.text);
    let chat = json!({
        "model": synthetic::NAME,
        "messages": [{"role": "user", "content": "x".repeat(2 * synthetic::CONTEXT)}],
    });
    let answer = http::post(&host.url("/v1/chat/completions"), &chat);
    answer.is_refused(400, None);
    assert_eq!(answer.json()["error"]["code"], "context_length_exceeded", "{}", answer.text);
    host.is_healthy();
}

#[test]
fn bodies_that_are_no_json_objects_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut host = host(&folder);
    let url = host.url("/v1/completions");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for body in
        [b"".as_slice(), b"{", b"[]", b"null", b"\xff\xfe", b"{\"model\": \"tiny\",}", deep.as_bytes()]
    {
        http::post_bytes(&url, "application/json", body).is_refused(400, None);
    }
    let text = http::post_bytes(&url, "text/plain", b"hello");
    assert!(matches!(text.status, 400 | 415), "{}: {}", text.status, text.text);
    http::get(&url).is_refused(405, None);
    http::get(&host.url("/v1/no-such-path")).is_refused(404, None);
    host.is_healthy();
}

#[test]
fn a_body_of_100_megabytes_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut host = host(&folder);
    for path in ["/v1/completions", "/v1/chat/completions"] {
        let mut stream = TcpStream::connect(host.socket_address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 104857600\r\n\r\n",
            host.socket_address()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // The server may close while this is still sending; only its answer counts.
        let piece = vec![b' '; 1 << 20];
        for _ in 0..100 {
            if stream.write_all(&piece).is_err() {
                break;
            }
        }
        let mut answer = [0_u8; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 413", "{path}: {}", String::from_utf8_lossy(&answer));
    }
    host.complete(synthetic::NAME, 2).success();
    host.is_healthy();
}

#[test]
fn clients_that_go_away_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut host = host(&folder);
    let body =
        json!({"model": synthetic::NAME, "prompt": "x", "max_tokens": 400, "stream": true}).to_string();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(host.socket_address()).unwrap();
        let head = format!(
            "POST /v1/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            host.socket_address(),
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut first = [0_u8; 12];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
    }
    host.complete(synthetic::NAME, 2).success();
    host.is_healthy();
}
