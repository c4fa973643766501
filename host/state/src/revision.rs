//! Revisions with compare-and-set: a change says which revision it was decided on, and fails when that is not the
//! current one any more.

use std::fmt;
use std::str::FromStr;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use serde::{Deserialize, Serialize};

use crate::StateError;

/// The number of a change; 0 is the state before the first one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Revision {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl rusqlite::ToSql for Revision {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        let number =
            i64::try_from(self.0).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        Ok(number.into())
    }
}

impl rusqlite::types::FromSql for Revision {
    fn column_result(value: rusqlite::types::ValueRef<'_>) -> rusqlite::types::FromSqlResult<Self> {
        let number = i64::column_result(value)?;
        u64::try_from(number).map(Self).map_err(|_| rusqlite::types::FromSqlError::OutOfRange(number))
    }
}

/// The revision of a scope (any name that its owner chooses, such as `slot/router`).
pub fn current_revision(connection: &Connection, scope: &str) -> Result<Revision, StateError> {
    let found = connection
        .query_row("SELECT revision FROM revisions WHERE scope = ?1", [scope], |row| row.get(0))
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// Gives the scope its next revision inside the caller's transaction and returns it.
///
/// With `expected`, fails with [`StateError::RevisionConflict`] unless that is the current one.
pub fn advance_revision(
    transaction: &Transaction<'_>,
    scope: &str,
    expected: Option<Revision>,
) -> Result<Revision, StateError> {
    let found = current_revision(transaction, scope)?;
    if let Some(expected) = expected
        && expected != found
    {
        return Err(StateError::RevisionConflict { scope: scope.to_owned(), expected, found });
    }
    let next = Revision(found.0 + 1);
    transaction.execute(
        "INSERT INTO revisions (scope, revision) VALUES (?1, ?2) ON CONFLICT (scope) DO UPDATE SET revision = ?2",
        params![scope, next],
    )?;
    Ok(next)
}
