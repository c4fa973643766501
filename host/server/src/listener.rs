//! One listening socket: accepting connections, serving HTTP/1.1 on each, and letting them finish on drain.
//!
//! On drain the socket closes at once, idle connections close, and a request in flight gets its whole answer. When the
//! signal goes on to *stopped*, the connections are dropped where they are.

use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::drain::Drain;

/// How long a client may take to send a request's head, counted from the connection or the previous answer.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// Pause after a failed accept: the usual cause is that the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` on `listener` until the drain signal, then until the last connection has ended.
pub async fn serve(listener: TcpListener, router: Router, drain: Drain) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = drain.draining() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, router.clone(), drain.clone()));
                }
                Err(error) => pause_after(&error).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    tokio::select! {
        () = async { while connections.join_next().await.is_some() {} } => {}
        () = drain.stopped() => connections.shutdown().await,
    }
}

async fn connection(stream: TcpStream, router: Router, drain: Drain) {
    // Tokens are small packets that a person waits for.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drain.draining() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // A client that goes away is no event worth more than this.
        tracing::debug!(%error, "connection ended early");
    }
}

async fn pause_after(error: &io::Error) {
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        tracing::warn!(%error, "a connection could not be accepted");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}
