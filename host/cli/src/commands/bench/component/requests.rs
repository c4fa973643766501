//! What a router adds to a request: the variant named by the client, and left to the router, in turn.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use super::connection::{Connection, post};
use super::server::Server;
use crate::commands::bench::measure::Percentiles;

/// Requests that warm up.
const WARM_UP: usize = 200;

/// Times of requests for one token.
#[derive(Serialize)]
pub(super) struct InRequest {
    /// With the variant named.
    pub(super) pinned: Percentiles,
    /// With the router asked.
    pub(super) routed: Percentiles,
    /// The difference of the medians, in microseconds.
    pub(super) added_microseconds: f64,
}

pub(super) fn measure(server: &Server, pairs: usize) -> Result<InRequest> {
    let request = |model: &str| {
        let body = json!({"model": model, "prompt": "four", "max_tokens": 1, "temperature": 0});
        post("/v1/completions", &body.to_string())
    };
    let (pinned, routed) = (request("tiny@a"), request("tiny"));
    let mut connection = Connection::open(server.address)?;
    for _ in 0..WARM_UP {
        connection.ask(&pinned)?;
        connection.ask(&routed)?;
    }
    let (mut without, mut with): (Vec<Duration>, Vec<Duration>) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        // Who comes first alternates: what one leaves in a cache helps the other.
        if pair % 2 == 0 {
            without.push(connection.ask(&pinned)?);
            with.push(connection.ask(&routed)?);
        } else {
            with.push(connection.ask(&routed)?);
            without.push(connection.ask(&pinned)?);
        }
    }
    let (pinned, routed) = (Percentiles::of(without), Percentiles::of(with));
    let added_microseconds = routed.p50_microseconds - pinned.p50_microseconds;
    Ok(InRequest { pinned, routed, added_microseconds })
}
