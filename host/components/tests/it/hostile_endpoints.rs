//! Endpoints that misbehave: each is stopped by its limit, with its name, and the host goes on.

use std::time::{Duration, Instant};

use espalier_components::{ComponentError, GrantedHosts, Host, HostConfig, HttpEndpoint, Limit, Limits};
use http_body_util::BodyExt as _;

use crate::endpoints::{ask, endpoint, request, text};
use crate::guests::load;
use crate::served_words::Words;

const GUEST: &str = "fixture-hostile-endpoint";

fn limited(limits: Limits) -> HttpEndpoint {
    endpoint(&Host::new(HostConfig { endpoint: limits, ..HostConfig::default() }).unwrap(), GUEST)
}

fn strict() -> Limits {
    Limits {
        guest_time: Duration::from_millis(400),
        wall_time: Duration::from_secs(20),
        concurrent_calls: 2,
        response_bytes: 100_000,
        generated_tokens: 500,
        ..Limits::endpoint()
    }
}

/// What a request to a path ends with instead of a response.
async fn error(endpoint: &HttpEndpoint, path: &str) -> ComponentError {
    match ask(endpoint, &Words::default(), request("GET", path, "")).await {
        Ok(response) => panic!("{path}: {}", text(response).await),
        Err(error) => error,
    }
}

async fn is_alive(endpoint: &HttpEndpoint) {
    let response = ask(endpoint, &Words::default(), request("POST", "/echo?a=b", "12345")).await.unwrap();
    assert_eq!(text(response).await, "/echo a=b  5");
}

#[tokio::test]
async fn each_is_stopped_by_what_it_does() {
    let endpoint = limited(strict());
    for (path, outcome) in [
        ("/loop", "guest_time"),
        ("/allocate", "memory"),
        ("/trap", "trap"),
        ("/nothing", "invalid_answer"),
        ("/error", "error_code"),
    ] {
        let found = error(&endpoint, path).await;
        assert_eq!(found.outcome(), outcome, "{path}: {found}");
        assert!(found.to_string().contains("fixture-hostile-endpoint@0.1.0"), "{found}");
        is_alive(&endpoint).await;
    }
}

#[tokio::test]
async fn tokens_and_sessions_are_limited() {
    // Sixty-four sessions of too many tokens each: the first one ends the call.
    let found = error(&limited(strict()), "/tokens").await;
    assert_eq!(found.outcome(), "generated_tokens", "{found}");
}

#[tokio::test]
async fn a_response_that_is_cut_looks_cut() {
    let endpoint = limited(strict());
    let endless = ask(&endpoint, &Words::default(), request("GET", "/endless", "")).await.unwrap();
    let mut body = endless.into_body();
    let mut read = 0;
    let error = loop {
        match body.frame().await.expect("it has no end") {
            Ok(frame) => read += frame.into_data().map_or(0, |data| data.len()),
            Err(error) => break error.to_string(),
        }
    };
    assert!(read <= 100_000 && error.contains("more than 100000 bytes"), "{read}: {error}");
    drop(body);
    let stuck = ask(&endpoint, &Words::default(), request("GET", "/loop-in-the-middle", "")).await.unwrap();
    assert!(stuck.into_body().collect().await.is_err(), "the guest never finished its body");
    is_alive(&endpoint).await;
}

#[tokio::test]
async fn a_call_that_waits_for_too_long_is_ended() {
    let endpoint = limited(Limits { wall_time: Duration::from_millis(200), ..strict() });
    let began = Instant::now();
    // Five seconds of waiting for tokens.
    let found = error(&endpoint, "/wait?100").await;
    assert_eq!(found.outcome(), "wall_time", "{found}");
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
}

#[tokio::test]
async fn others_go_on_while_a_guest_computes() {
    // One thread for all of it: the guest gives it back at every tick.
    let time = Duration::from_secs(5);
    let endpoint = limited(Limits { guest_time: time, wall_time: 10 * time, ..strict() });
    let others = async {
        for _ in 0..5 {
            is_alive(&endpoint).await;
        }
    };
    tokio::select! {
        found = error(&endpoint, "/loop") => panic!("the loop ended first: {found}"),
        () = others => {}
    }
}

#[tokio::test]
async fn calls_at_once_are_limited() {
    let endpoint = limited(strict());
    let words = Words::default();
    let wait = || ask(&endpoint, &words, request("GET", "/wait?4", ""));
    let (first, second, third) = tokio::join!(wait(), wait(), wait());
    assert!(first.is_ok() && second.is_ok());
    let found = third.map(|_| ()).unwrap_err();
    assert!(matches!(&found, ComponentError::Limit { limit: Limit::ConcurrentCalls(2), .. }), "{found}");
    is_alive(&endpoint).await;
}

#[tokio::test]
async fn only_granted_hosts_are_reached() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let peer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut read = vec![0; 1024];
        let count = stream.read(&mut read).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
        String::from_utf8_lossy(&read[..count]).into_owned()
    });
    let host = crate::guests::host();
    let fetch = request("GET", &format!("/fetch?{authority}"), "");
    let closed = endpoint(&host, GUEST);
    let response = ask(&closed, &Words::default(), fetch.clone()).await.unwrap();
    assert!(text(response).await.contains("HttpRequestDenied"), "the default is no network");
    let granted = GrantedHosts::new(vec![authority.parse().unwrap()]).unwrap();
    let open = HttpEndpoint::new(load(&host, GUEST).unwrap(), granted).unwrap();
    let response = ask(&open, &Words::default(), fetch).await.unwrap();
    assert_eq!(text(response).await, "hello");
    let seen = peer.await.unwrap();
    assert!(seen.starts_with("GET / HTTP/1.1\r\n"), "{seen}");
    let elsewhere = ask(&open, &Words::default(), request("GET", "/fetch?localhost:1", "")).await.unwrap();
    assert!(text(elsewhere).await.contains("HttpRequestDenied"));
}
