//! One connection that is kept, for requests that are timed: as little of HTTP/1.1 as both servers need.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// A server that says nothing for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer that is read.
const ANSWER_LIMIT: usize = 1 << 20;

/// A connection to a server.
pub(super) struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    pub(super) fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("no connection to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, answer: Vec::new() })
    }

    /// Sends a request and reads the answer to its end; fails unless its status is 200.
    pub(super) fn ask(&mut self, request: &[u8]) -> Result<Duration> {
        let began = Instant::now();
        self.stream.write_all(request)?;
        self.answer.clear();
        let mut piece = [0; 4096];
        while !is_whole(&self.answer)? {
            let count = self.stream.read(&mut piece)?;
            ensure!(count > 0, "the server closed the connection in the middle of an answer");
            self.answer.extend_from_slice(piece.get(..count).unwrap_or_default());
            ensure!(self.answer.len() <= ANSWER_LIMIT, "the answer has more than {ANSWER_LIMIT} bytes");
        }
        let took = began.elapsed();
        if !self.answer.starts_with(b"HTTP/1.1 200") {
            bail!("found the answer {:?}, expected the status 200", String::from_utf8_lossy(&self.answer));
        }
        Ok(took)
    }
}

/// Whether an answer has all of its head and its body.
fn is_whole(answer: &[u8]) -> Result<bool> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(false) };
    let (head, body) = answer.split_at(end + 4);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    if head.contains("transfer-encoding: chunked") {
        return Ok(body.ends_with(b"0\r\n\r\n"));
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.map_or("0", str::trim).parse().context("the content-length is no number")?;
    Ok(body.len() >= length)
}

/// A GET.
pub(super) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

/// A POST of JSON.
pub(super) fn post(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_to_its_end_and_not_beyond() {
        let plain = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        for whole in [&plain[..], &chunked[..]] {
            assert!(is_whole(whole).unwrap());
            for cut in 0..whole.len() {
                assert!(!is_whole(&whole[..cut]).unwrap(), "{cut}");
            }
        }
        assert!(is_whole(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n").is_err());
    }
}
