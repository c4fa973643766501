//! The drain signal: what is in flight finishes, what is new is refused, and a second signal waits for nothing.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::connection::Connection;
use crate::host::{Host, MODEL};

fn long_stream(host: &Host) -> Connection {
    let body = json!({"model": MODEL, "prompt": "x", "max_tokens": 240, "temperature": 1.5, "seed": 3, "stream": true});
    let mut connection = Connection::open(host.public());
    connection.post("/v1/completions", &body.to_string());
    connection.read_until("data: ");
    connection
}

#[test]
fn a_stream_in_flight_ends_as_it_would_have() {
    let mut host = Host::start();
    let mut connection = long_stream(&host);
    host.application.begin_drain();
    let rest = connection.read_to_end();
    assert!(rest.contains("data: [DONE]"), "{rest}");
    host.join();
    assert!(std::net::TcpStream::connect(host.public()).is_err());
}

#[test]
fn idle_connections_do_not_hold_the_end_up() {
    let mut host = Host::start();
    let mut idle = Connection::open(host.public());
    idle.get("/health");
    idle.read_until("alive");
    let begin = Instant::now();
    host.application.begin_drain();
    host.join();
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert_eq!(idle.read_to_end(), "");
}

#[test]
fn a_second_signal_cuts_off_what_is_in_flight() {
    let mut host = Host::start();
    let connection = long_stream(&host);
    let begin = Instant::now();
    host.application.begin_drain();
    host.application.drain().stop();
    host.join();
    assert!(begin.elapsed() < Duration::from_secs(5));
    drop(connection);
}
