//! The table of jobs in the state directory.

use std::time::{SystemTime, UNIX_EPOCH};

use espalier_state::rusqlite::{Connection, OptionalExtension as _, Row, params};
use espalier_state::{State, StateError};
use serde_json::Value;

use super::record::{Job, JobCount, JobEvent, JobState};
use super::request::{JobRequest, RECIPE};
use crate::error::PruningError;
use crate::progress::Phase;

/// What a job that was running when the host stopped is failed with.
const INTERRUPTED: &str = "the host stopped while this job was running";

/// How often a run of a recipe is taken up without getting a stage further, before it is taken to be what ends the host.
const MOST_ATTEMPTS: u32 = 20;

const MIGRATIONS: [&str; 3] = [
    "
    CREATE TABLE jobs (
        id          INTEGER PRIMARY KEY AUTOINCREMENT,
        request     TEXT NOT NULL,
        state       TEXT NOT NULL,
        phase       TEXT,
        done        INTEGER NOT NULL DEFAULT 0,
        total       INTEGER NOT NULL DEFAULT 0,
        error       TEXT,
        result      TEXT,
        created_ms  INTEGER NOT NULL,
        started_ms  INTEGER,
        finished_ms INTEGER
    ) STRICT;
    CREATE INDEX jobs_by_state ON jobs (state, id);
",
    "
    ALTER TABLE jobs ADD COLUMN stage TEXT;
    ALTER TABLE jobs ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
",
    "ALTER TABLE jobs ADD COLUMN cancelling INTEGER NOT NULL DEFAULT 0;",
];

const COLUMNS: &str =
    "id, request, state, phase, done, total, stage, error, result, created_ms, started_ms, finished_ms";

/// The stored jobs.
#[derive(Clone, Debug)]
pub(super) struct JobStore {
    state: State,
}

/// How a job ended.
pub(super) enum Outcome {
    Succeeded(Value),
    Failed(String),
    Cancelled,
    Interrupted,
}

impl JobStore {
    /// Creates the table where it is missing, and queues the runs of recipes that an earlier host left running; its other
    /// jobs are failed, and so is a run that never gets further before the host ends.
    pub(super) fn open(state: State) -> Result<Self, PruningError> {
        state.migrate("jobs", &MIGRATIONS)?;
        let given_up = format!(
            "the host ended {MOST_ATTEMPTS} times at the same stage of this run, which is not taken up again; what it has \
             done is kept"
        );
        state.write(|transaction| {
            transaction.execute(
                "UPDATE jobs SET state = 'cancelled', finished_ms = ?1 WHERE state = 'running' AND cancelling",
                [now()],
            )?;
            transaction.execute(
                "UPDATE jobs SET state = 'failed', error = ?1, finished_ms = ?2
                 WHERE state = 'running' AND request ->> 'kind' = ?3 AND attempts >= ?4",
                params![given_up, now(), RECIPE, MOST_ATTEMPTS],
            )?;
            transaction.execute(
                "UPDATE jobs SET state = 'queued' WHERE state = 'running' AND request ->> 'kind' = ?1",
                [RECIPE],
            )?;
            transaction.execute(
                "UPDATE jobs SET state = 'failed', error = ?1, finished_ms = ?2 WHERE state = 'running'",
                params![INTERRUPTED, now()],
            )?;
            Ok::<_, StateError>(())
        })?;
        Ok(Self { state })
    }

    pub(super) fn insert(&self, request: &JobRequest) -> Result<Job, PruningError> {
        let text = serde_json::to_string(request)
            .map_err(|source| PruningError::Json { what: "the job request".to_owned(), source })?;
        let id = self.state.write(|transaction| {
            transaction
                .execute(
                    "INSERT INTO jobs (request, state, created_ms) VALUES (?1, 'queued', ?2)",
                    params![text, now()],
                )
                .map_err(StateError::from)?;
            Ok::<_, StateError>(transaction.last_insert_rowid())
        })?;
        self.get(unsigned(id))
    }

    pub(super) fn get(&self, id: u64) -> Result<Job, PruningError> {
        let query = format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1");
        self.state
            .with_connection(|connection| {
                connection
                    .query_row(&query, [signed(id)], |row| Ok(read(row)))
                    .optional()
                    .map_err(StateError::from)
            })?
            .unwrap_or(Err(PruningError::JobNotFound { id }))
    }

    /// Newest first; those of one kind if it is named.
    pub(super) fn list(&self, kind: Option<&str>, limit: usize) -> Result<Vec<Job>, PruningError> {
        let rows = self
            .state
            .with_connection(|connection| all(connection, kind, limit).map_err(StateError::from))?;
        rows.into_iter().collect()
    }

    /// How many jobs of each kind are in each state.
    pub(super) fn counts(&self) -> Result<Vec<JobCount>, PruningError> {
        let rows = self.state.with_connection(|connection| counts(connection).map_err(StateError::from))?;
        Ok(rows
            .into_iter()
            .filter_map(|(kind, state, count)| {
                Some(JobCount { kind, state: JobState::parse(&state)?, count: unsigned(count) })
            })
            .collect())
    }

    /// Takes the oldest queued job and marks it as running.
    pub(super) fn claim(&self) -> Result<Option<Job>, PruningError> {
        let id: Option<i64> = self.state.write(|transaction| {
            transaction
                .query_row(
                    "UPDATE jobs SET state = 'running', started_ms = COALESCE(started_ms, ?1), attempts = attempts + 1 WHERE id =
                     (SELECT id FROM jobs WHERE state = 'queued' ORDER BY id LIMIT 1) RETURNING id",
                    [now()],
                    |row| row.get(0),
                )
                .optional()
                .map_err(StateError::from)
        })?;
        let Some(id) = id.map(unsigned) else { return Ok(None) };
        let job = self.get(id);
        if let Err(PruningError::JobRecord { reason, .. }) = &job {
            // Left as running, it would look alive for ever.
            self.execute(
                "UPDATE jobs SET state = 'failed', error = ?2, finished_ms = ?3 WHERE id = ?1",
                params![signed(id), reason, now()],
            )?;
        }
        job.map(Some)
    }

    /// Stores where a job is.
    pub(super) fn progress(&self, event: &JobEvent) -> Result<(), PruningError> {
        let JobEvent { id, phase, done, total, stage, .. } = event;
        let stage = stage.as_ref().map(serde_json::to_string).transpose();
        let stage = stage
            .map_err(|source| PruningError::Json { what: "the progress of a job".to_owned(), source })?;
        self.execute(
            "UPDATE jobs SET phase = ?2, done = ?3, total = ?4, stage = ?5 WHERE id = ?1",
            params![signed(*id), phase.map(Phase::name), signed(*done), signed(*total), stage],
        )?;
        Ok(())
    }

    /// Stores what there is of a running job's result; `further` forgets the attempts that it took.
    pub(super) fn partial_result(&self, id: u64, result: &Value, further: bool) -> Result<(), PruningError> {
        self.execute(
            "UPDATE jobs SET result = ?2, attempts = CASE WHEN ?3 THEN 0 ELSE attempts END WHERE id = ?1",
            params![signed(id), result.to_string(), further],
        )?;
        Ok(())
    }

    /// Ends a running job, or puts the run of a recipe back into the queue where the host ends before it. A failed or
    /// cancelled job keeps what it has of its result.
    pub(super) fn finish(&self, id: u64, outcome: Outcome) -> Result<Job, PruningError> {
        let (state, error, result) = match outcome {
            Outcome::Succeeded(result) => (JobState::Succeeded, None, Some(result.to_string())),
            Outcome::Failed(error) => (JobState::Failed, Some(error), None),
            Outcome::Cancelled => (JobState::Cancelled, None, None),
            Outcome::Interrupted if self.get(id)?.request.kind() == RECIPE => {
                // An orderly end is no fault of the run.
                self.execute(
                    "UPDATE jobs SET attempts = MAX(attempts - 1, 0),
                     state = CASE WHEN cancelling THEN 'cancelled' ELSE 'queued' END,
                     finished_ms = CASE WHEN cancelling THEN ?2 END
                     WHERE id = ?1 AND state = 'running'",
                    params![signed(id), now()],
                )?;
                return self.get(id);
            }
            Outcome::Interrupted => (JobState::Failed, Some(INTERRUPTED.to_owned()), None),
        };
        self.execute(
            "UPDATE jobs SET state = ?2, error = ?3, result = COALESCE(?4, result), finished_ms = ?5
             WHERE id = ?1 AND state = 'running'",
            params![signed(id), state.name(), error, result, now()],
        )?;
        self.get(id)
    }

    /// Ends a job that has not been started; false if it was not queued any more.
    pub(super) fn cancel_queued(&self, id: u64) -> Result<bool, PruningError> {
        let changed = self.execute(
            "UPDATE jobs SET state = 'cancelled', finished_ms = ?2 WHERE id = ?1 AND state = 'queued'",
            params![signed(id), now()],
        )?;
        Ok(changed == 1)
    }

    /// Keeps that a running job is to end: a host that is killed before it does leaves no job that goes on.
    pub(super) fn request_cancel(&self, id: u64) -> Result<(), PruningError> {
        self.execute(
            "UPDATE jobs SET cancelling = 1 WHERE id = ?1 AND state = 'running'",
            params![signed(id)],
        )?;
        Ok(())
    }

    /// Queues the run of a recipe that failed or was cancelled; false if the job is something else.
    pub(super) fn resume(&self, id: u64) -> Result<bool, PruningError> {
        let changed = self.execute(
            "UPDATE jobs SET state = 'queued', error = NULL, finished_ms = NULL, attempts = 0, cancelling = 0
             WHERE id = ?1 AND state IN ('failed', 'cancelled') AND request ->> 'kind' = ?2",
            params![signed(id), RECIPE],
        )?;
        Ok(changed == 1)
    }

    fn execute(
        &self,
        statement: &str,
        parameters: &[&dyn espalier_state::rusqlite::ToSql],
    ) -> Result<usize, PruningError> {
        Ok(self
            .state
            .write(|transaction| transaction.execute(statement, parameters).map_err(StateError::from))?)
    }
}

fn all(
    connection: &Connection,
    kind: Option<&str>,
    limit: usize,
) -> espalier_state::rusqlite::Result<Vec<Result<Job, PruningError>>> {
    let mut statement = connection.prepare(&format!(
        "SELECT {COLUMNS} FROM jobs WHERE ?1 IS NULL OR request ->> 'kind' = ?1 ORDER BY id DESC LIMIT ?2"
    ))?;
    let rows =
        statement.query_map(params![kind, i64::try_from(limit).unwrap_or(i64::MAX)], |row| Ok(read(row)))?;
    rows.collect()
}

fn counts(connection: &Connection) -> espalier_state::rusqlite::Result<Vec<(String, String, i64)>> {
    let query = "SELECT request ->> 'kind', state, COUNT(*) FROM jobs GROUP BY 1, 2 ORDER BY 1, 2";
    let mut statement = connection.prepare(query)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    rows.collect()
}

fn read(row: &Row<'_>) -> Result<Job, PruningError> {
    let id = unsigned(row.get("id").map_err(StateError::from)?);
    let unreadable = |reason: String| PruningError::JobRecord { id, reason };
    let text =
        |column: &str| row.get::<_, Option<String>>(column).map_err(|error| unreadable(error.to_string()));
    let number =
        |column: &str| row.get::<_, Option<i64>>(column).map_err(|error| unreadable(error.to_string()));
    let json = |column: &str, text: &str| -> Result<Value, PruningError> {
        serde_json::from_str(text).map_err(|error| unreadable(format!("{column}: {error}")))
    };
    let request = json("request", &text("request")?.unwrap_or_default())?;
    let state = text("state")?.unwrap_or_default();
    let phase = text("phase")?.map(|phase| serde_json::from_value(Value::String(phase))).transpose();
    let stage = text("stage")?.map(|stage| serde_json::from_str(&stage)).transpose();
    Ok(Job {
        id,
        request: serde_json::from_value(request).map_err(|error| unreadable(format!("request: {error}")))?,
        state: JobState::parse(&state).ok_or_else(|| unreadable(format!("state \"{state}\" is unknown")))?,
        phase: phase.map_err(|error| unreadable(format!("phase: {error}")))?,
        done: unsigned(number("done")?.unwrap_or(0)),
        total: unsigned(number("total")?.unwrap_or(0)),
        stage: stage.map_err(|error| unreadable(format!("stage: {error}")))?,
        error: text("error")?,
        result: text("result")?.map(|text| json("result", &text)).transpose()?,
        created_ms: unsigned(number("created_ms")?.unwrap_or(0)),
        started_ms: number("started_ms")?.map(unsigned),
        finished_ms: number("finished_ms")?.map(unsigned),
    })
}

fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

/// SQLite knows signed integers only; numbers of this crate stay far below the difference.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
