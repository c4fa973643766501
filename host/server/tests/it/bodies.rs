//! Bodies: too large, not JSON, of another media type.

use std::io::Write as _;

use crate::connection::Connection;
use crate::host::{Host, MODEL};

#[test]
fn what_is_not_a_json_object_is_refused() {
    let host = Host::start();
    let deep = "[".repeat(100_000);
    for body in [b"".as_slice(), b"{", b"[]", b"null", b"\"x\"", b"\xff\xfe", b"{\"a\":1,}", deep.as_bytes()]
    {
        let answer = host.post_bytes("/v1/completions", "application/json", body);
        answer.is_refused(400, None, "invalid_json");
    }
    let answer = host.post_bytes("/v1/completions", "application/json", b"{\"model\": \"tiny\",\n  oops}");
    assert!(answer.message().contains("line 2 column 3"), "{}", answer.text);
    let answer = host.post_bytes("/v1/completions", "text/plain", b"{}");
    answer.is_refused(415, Some("content-type"), "unsupported_media_type");
    host.complete(MODEL).success();
}

fn head(length: &str) -> String {
    format!(
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{length}\r\n\r\n"
    )
}

/// Sends up to 100 pieces of a megabyte; the server may close before the last, and only its answer counts.
fn send_pieces(connection: &mut Connection, chunked: bool) {
    let piece = vec![b' '; 1 << 20];
    for _ in 0..100 {
        let before = if chunked { format!("{:x}\r\n", piece.len()) } else { String::new() };
        let after: &[u8] = if chunked { b"\r\n" } else { b"" };
        let stream = &mut connection.0;
        let sent = stream.write_all(before.as_bytes()).and_then(|()| stream.write_all(&piece));
        if sent.and_then(|()| stream.write_all(after)).is_err() {
            return;
        }
    }
}

#[test]
fn a_hundred_megabytes_are_refused_with_and_without_an_announcement() {
    let host = Host::start();
    for (length, chunked) in [("content-length: 104857600", false), ("transfer-encoding: chunked", true)] {
        let mut connection = Connection::open(host.public());
        connection.0.write_all(head(length).as_bytes()).unwrap();
        send_pieces(&mut connection, chunked);
        let answer = connection.read_until("}}");
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(answer.contains("16777216"), "{answer}");
    }
    host.complete(MODEL).success();
}

#[test]
fn an_announced_body_is_refused_before_any_of_it_is_sent() {
    let host = Host::start();
    let mut connection = Connection::open(host.public());
    connection.0.write_all(head("content-length: 104857600").as_bytes()).unwrap();
    assert!(connection.read_until("}}").starts_with("HTTP/1.1 413"));
}
