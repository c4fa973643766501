//! What can go wrong with the state directory.

use std::io;
use std::path::PathBuf;

use crate::{Digest, Revision};

/// Why the state could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb: "write".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The database could not be opened.
    #[error("cannot open the database {}: {source}", path.display())]
    Open {
        /// The database file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// The database refused a statement.
    #[error("the state database failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// A blob that should be there is not.
    #[error("blob {0} is not in the state directory")]
    BlobMissing(Digest),
    /// A blob's bytes changed on disk.
    #[error("blob {expected} is damaged: its content hashes to {found}")]
    BlobDamaged {
        /// The digest it is stored under.
        expected: Digest,
        /// The digest of the bytes found.
        found: Digest,
    },
    /// A text is not a digest.
    #[error("\"{0}\" is not a digest: expected 64 hexadecimal digits")]
    NotADigest(String),
    /// Somebody else changed the thing first.
    #[error("{scope} is at revision {found}, not at the expected revision {expected}")]
    RevisionConflict {
        /// What was to be changed.
        scope: String,
        /// The revision that the caller had seen.
        expected: Revision,
        /// The revision that the state has.
        found: Revision,
    },
    /// The database was written by a newer host.
    #[error(
        "the tables of \"{owner}\" are at version {found}, this host knows versions up to {known}: use a newer host"
    )]
    TooNew {
        /// Who owns the tables.
        owner: String,
        /// The version found.
        found: usize,
        /// The newest version that this host knows.
        known: usize,
    },
}
