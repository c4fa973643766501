//! The state directory as a whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::blobs::file_error;
use crate::{Blobs, StateError, migrations};

/// How long a change waits for another process's change.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// An open state directory. Clones share it.
#[derive(Clone, Debug)]
pub struct State {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    connection: Mutex<Connection>,
    blobs: Blobs,
}

impl State {
    /// Opens a state directory, which is created if there is none.
    pub fn open(directory: &Path) -> Result<Self, StateError> {
        fs::create_dir_all(directory).map_err(|source| file_error("create", directory, source))?;
        let path = directory.join("espalier.db");
        let connection = open_database(&path).map_err(|source| StateError::Open { path, source })?;
        let blobs = Blobs::open(directory.join("blobs"))?;
        let inner = Inner { directory: directory.to_owned(), connection: Mutex::new(connection), blobs };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// The content-addressed blobs.
    pub fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// Applies those of an owner's migration steps that this database has not seen, all in one transaction.
    ///
    /// Each step is a batch of SQL. A published list may only grow at its end.
    pub fn migrate(&self, owner: &str, steps: &[&str]) -> Result<(), StateError> {
        self.write(|transaction| migrations::apply(transaction, owner, steps))
    }

    /// Runs `work` with the connection, which no other thread uses meanwhile.
    pub fn with_connection<T, E: From<StateError>>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        // A panic in another call rolled its transaction back; the connection itself is sound.
        let mut connection = self.inner.connection.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut connection)
    }

    /// Runs `work` as one transaction that is durable when this returns `Ok` and undone when it returns `Err`.
    pub fn write<T, E: From<StateError>>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.with_connection(|connection| {
            let transaction = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(StateError::from)?;
            let answer = work(&transaction)?;
            transaction.commit().map_err(StateError::from)?;
            Ok(answer)
        })
    }
}

fn open_database(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // In WAL mode only FULL makes a committed transaction survive a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.execute_batch(migrations::BOOKKEEPING)?;
    Ok(connection)
}
