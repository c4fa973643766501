//! Compiled code, kept in the state directory so that a component is compiled once per version of the engine.
//!
//! Loading compiled code runs it with the host's rights, so only bytes that this host wrote are loaded: the database
//! records the digest of the code it stored for a component and an engine, and the blob store checks the bytes that it
//! reads against that digest. A cache that fails in any way costs a compilation and nothing else.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use espalier_state::rusqlite::{OptionalExtension as _, params};
use espalier_state::{Digest, State, StateError};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::ComponentError;

const TABLES: [&str; 1] = ["
    CREATE TABLE compiled_components (
        component TEXT NOT NULL,
        engine TEXT NOT NULL,
        code TEXT NOT NULL,
        PRIMARY KEY (component, engine)
    ) STRICT;
"];

/// The compiled code that the state directory has for this engine.
pub(crate) struct Artefacts {
    state: State,
    /// wasmtime's version, the compiler's settings and the machine's features, hashed.
    engine: String,
}

impl Artefacts {
    pub(crate) fn open(state: &State, engine: &Engine) -> Result<Self, ComponentError> {
        state.migrate("compiled-components", &TABLES)?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let engine = format!("{:016x}", hasher.finish());
        Ok(Self { state: state.clone(), engine })
    }

    /// The code that was compiled from this component, if it is there and whole.
    pub(crate) fn load(&self, engine: &Engine, component: Digest) -> Option<Component> {
        let code = match self.find(component) {
            Ok(found) => found?,
            Err(error) => {
                tracing::warn!("compiled code of {component} is not used: {error}");
                return None;
            }
        };
        #[expect(
            unsafe_code,
            reason = "the bytes were written by this host, which the module header explains"
        )]
        // SAFETY: `code` are the bytes that `store` serialised: their SHA-256 was just compared with the one that the
        // database recorded then. Whoever can change both can as well change the host itself.
        let loaded = unsafe { Component::deserialize(engine, &code) };
        loaded.inspect_err(|error| tracing::warn!("compiled code of {component} is not used: {error:#}")).ok()
    }

    /// Keeps the compiled code of a component.
    pub(crate) fn store(&self, compiled: &Component, component: Digest) {
        let stored = compiled
            .serialize()
            .map_err(crate::host::engine_error)
            .and_then(|code| Ok(self.state.blobs().put(&code)?))
            .and_then(|code| self.record(component, code).map_err(ComponentError::from));
        if let Err(error) = stored {
            tracing::warn!("the compiled code of {component} could not be kept: {error}");
        }
    }

    /// Removes what was compiled from a component, for every engine.
    pub(crate) fn remove(state: &State, component: Digest) -> Result<(), StateError> {
        let codes = state.write(|transaction| {
            let mut select =
                transaction.prepare("DELETE FROM compiled_components WHERE component = ?1 RETURNING code")?;
            let codes = select.query_map([component.to_string()], |row| row.get::<_, String>(0))?;
            Ok::<_, StateError>(codes.collect::<Result<Vec<_>, _>>()?)
        })?;
        codes.iter().try_for_each(|code| state.blobs().remove(code.parse()?))
    }

    fn find(&self, component: Digest) -> Result<Option<Vec<u8>>, StateError> {
        let code: Option<String> = self.state.with_connection(|connection| {
            let select = "SELECT code FROM compiled_components WHERE component = ?1 AND engine = ?2";
            let key = params![component.to_string(), self.engine];
            Ok::<_, StateError>(connection.query_row(select, key, |row| row.get(0)).optional()?)
        })?;
        code.map(|code| self.state.blobs().get(code.parse()?)).transpose()
    }

    fn record(&self, component: Digest, code: Digest) -> Result<(), StateError> {
        self.state.write(|transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO compiled_components (component, engine, code) VALUES (?1, ?2, ?3)",
                params![component.to_string(), self.engine, code.to_string()],
            )?;
            Ok(())
        })
    }
}
