//! What can keep the server from starting or from doing its own work. Errors of requests are [`crate::api_error`]'s.

use std::net::SocketAddr;
use std::path::PathBuf;

use espalier_components::ComponentError;
use espalier_engine::EngineError;
use espalier_pruning::PruningError;
use espalier_state::StateError;

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
    /// A model of the command line could not be loaded.
    #[error("--model {address}={}: {source}", path.display())]
    Load {
        /// `NAME@VARIANT`.
        address: String,
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<EngineError>,
    },
    /// The state directory could not be opened.
    #[error(transparent)]
    State(#[from] StateError),
    /// The component host could not be started.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// A thread could not be started.
    #[error("a thread cannot be started: {0}")]
    Thread(#[source] std::io::Error),
    /// The job queue could not be started.
    #[error(transparent)]
    Jobs(#[from] PruningError),
}
