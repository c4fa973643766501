//! Creates and alters tables, once each, in order.
//!
//! Every owner of tables has its own list of steps. The number of steps that were applied is stored, so a list may
//! only grow at its end.

use rusqlite::{OptionalExtension as _, Transaction, params};

use crate::StateError;

pub(crate) const BOOKKEEPING: &str = "
    CREATE TABLE IF NOT EXISTS migrations (owner TEXT PRIMARY KEY, applied INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS revisions (scope TEXT PRIMARY KEY, revision INTEGER NOT NULL) STRICT;
";

pub(crate) fn apply(transaction: &Transaction<'_>, owner: &str, steps: &[&str]) -> Result<(), StateError> {
    let applied: usize = transaction
        .query_row("SELECT applied FROM migrations WHERE owner = ?1", [owner], |row| row.get::<_, i64>(0))
        .optional()?
        .and_then(|count| usize::try_from(count).ok())
        .unwrap_or(0);
    let Some(pending) = steps.get(applied..) else {
        return Err(StateError::TooNew { owner: owner.to_owned(), found: applied, known: steps.len() });
    };
    for step in pending {
        transaction.execute_batch(step)?;
    }
    let count = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    transaction.execute(
        "INSERT INTO migrations (owner, applied) VALUES (?1, ?2) ON CONFLICT (owner) DO UPDATE SET applied = ?2",
        params![owner, count],
    )?;
    Ok(())
}
