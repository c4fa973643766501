//! What can keep the server from starting or from doing its own work. Errors of requests are [`crate::api_error`]'s.

use std::net::SocketAddr;

/// An error of the server itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address could not be listened on.
    #[error("{flag}: {address} cannot be listened on: {source}")]
    Listen {
        /// The flag or key that gave the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The admin listener is reachable from other machines and has no token.
    #[error(
        "--admin-listen: {address} is not a loopback address, expected an --admin-token (or ESPALIER_ADMIN_TOKEN) with it"
    )]
    AdminTokenRequired {
        /// The address.
        address: SocketAddr,
    },
    /// A metric could not be defined or written.
    #[error("metrics: {0}")]
    Metrics(#[source] prometheus::Error),
}
