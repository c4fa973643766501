//! A client that goes away frees what its request held.

use serde_json::json;

use crate::connection::Connection;
use crate::host::{Host, MODEL, eventually};

const USED: &str = r#"espalier_kv_cache_blocks{generation="1",model="tiny",state="used",variant="original"}"#;
const ABORTED: &str =
    r#"espalier_requests_total{finished_reason="abort",generation="1",model="tiny",variant="original"}"#;

/// Goes away in the middle of an answer until one was cancelled: a sequence may end by itself before its client has gone.
fn go_away(stream: bool) {
    let host = Host::start();
    for attempt in 0..20 {
        let body = json!({
            "model": MODEL, "prompt": vec![format!("prompt {attempt}"); 8], "max_tokens": 240, "temperature": 1.5,
            "seed": attempt, "stream": stream,
        });
        let mut connection = Connection::open(host.public());
        connection.post("/v1/completions", &body.to_string());
        if stream {
            assert!(connection.read_until("data: ").starts_with("HTTP/1.1 200"));
        } else {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        drop(connection);
        eventually(|| (host.series(USED) == 0.0).then_some(()));
        if host.series(ABORTED) > 0.0 {
            host.complete(MODEL).success();
            return;
        }
    }
    panic!("no request was cancelled");
}

#[test]
fn a_stream_that_nobody_reads_is_cancelled() {
    go_away(true);
}

#[test]
fn a_whole_answer_that_nobody_waits_for_is_cancelled() {
    go_away(false);
}
