//! What the database knows of components.

use std::time::{SystemTime, UNIX_EPOCH};

use espalier_state::rusqlite::{self, Connection, OptionalExtension as _, Row, Transaction, params};
use espalier_state::{Digest, StateError};
use serde::Serialize;

use super::activations::{Activation, current_activations};
use super::slot::Slot;
use crate::{Component, ComponentError, Configuration, GrantedHosts, Signature, World};

pub(super) const TABLES: [&str; 4] = [
    "
    CREATE TABLE components (
        digest TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        version TEXT NOT NULL,
        summary TEXT NOT NULL,
        world TEXT NOT NULL,
        size INTEGER NOT NULL,
        created INTEGER NOT NULL,
        UNIQUE (name, version)
    ) STRICT;
    CREATE TABLE activations (
        slot TEXT NOT NULL,
        revision INTEGER NOT NULL,
        component TEXT NOT NULL,
        label TEXT NOT NULL,
        activated INTEGER NOT NULL,
        PRIMARY KEY (slot, revision)
    ) STRICT;
",
    "
    ALTER TABLE activations ADD COLUMN configuration TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE activations ADD COLUMN canary TEXT;
",
    "
    ALTER TABLE components ADD COLUMN signature TEXT;
",
    "
    ALTER TABLE activations ADD COLUMN granted_hosts TEXT NOT NULL DEFAULT '[]';
",
];

const COMPONENT_COLUMNS: &str = "digest, name, version, summary, world, size, created, signature";

/// A deployed component.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComponentRecord {
    /// The name that it gives itself.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its own sentence about itself.
    pub summary: String,
    /// Its world.
    pub world: World,
    /// The SHA-256 of its file.
    pub digest: Digest,
    /// The size of its file in bytes.
    pub size: u64,
    /// When it was deployed, in seconds since 1970.
    pub created: u64,
    /// The signature that it was deployed with.
    pub signature: Option<Signature>,
    /// The signer's name in the host's list of trusted keys.
    pub signer: Option<String>,
    /// The slots in which it is active.
    pub active_in: Vec<Slot>,
    /// Every place that it has, also as a canary, and how it is configured there.
    pub places: Vec<Place>,
}

/// A place that a component has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Place {
    /// The slot.
    pub slot: Slot,
    /// Whether it is on trial there, beside the active component.
    pub canary: bool,
    /// The share of the slot's calls that it gets.
    pub weight: f64,
    /// Its configuration there.
    pub configuration: Configuration,
    /// Where it may send requests from there.
    #[serde(skip_serializing_if = "GrantedHosts::is_empty")]
    pub granted_hosts: GrantedHosts,
}

impl ComponentRecord {
    /// `name@version`.
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// Whether the text names this component: `name@version`, the name, or eight or more first digits of the digest.
    fn answers_to(&self, reference: &str) -> bool {
        self.label() == reference
            || self.name == reference
            || (reference.len() >= 8 && self.digest.to_string().starts_with(reference))
    }
}

pub(super) fn all_components(connection: &Connection) -> Result<Vec<ComponentRecord>, ComponentError> {
    let select = format!("SELECT {COMPONENT_COLUMNS} FROM components ORDER BY name, created, version");
    let mut records: Vec<ComponentRecord> = rows(connection, &select, &[], component_row)?;
    let current = current_activations(connection)?;
    for record in &mut records {
        record.places = current.iter().flat_map(Activation::places_of(record.digest)).collect();
        let active = record.places.iter().filter(|place| !place.canary);
        record.active_in = active.map(|place| place.slot.clone()).collect();
    }
    Ok(records)
}

/// The one component that a reference names.
pub(super) fn find_component(
    connection: &Connection,
    reference: &str,
) -> Result<ComponentRecord, ComponentError> {
    let mut fitting = all_components(connection)?;
    fitting.retain(|record| record.answers_to(reference));
    match fitting.pop() {
        None => Err(ComponentError::NotDeployed(reference.to_owned())),
        Some(record) if fitting.is_empty() => Ok(record),
        Some(record) => {
            fitting.push(record);
            let found: Vec<_> = fitting.iter().map(ComponentRecord::label).collect();
            Err(ComponentError::Ambiguous { reference: reference.to_owned(), found: found.join(", ") })
        }
    }
}

/// Records a component; says whether it is new. A signature takes the place of an earlier one, or of none.
pub(super) fn insert_component(
    transaction: &Transaction<'_>,
    component: &Component,
    signature: Option<&Signature>,
) -> Result<bool, ComponentError> {
    let identity = component.identity();
    let digest = component.digest().to_string();
    let taken: Option<String> = transaction
        .query_row(
            "SELECT digest FROM components WHERE name = ?1 AND version = ?2",
            params![identity.name, identity.version],
            |row| row.get(0),
        )
        .optional()
        .map_err(StateError::from)?;
    if let Some(found) = taken {
        if found == digest {
            if let Some(signature) = signature {
                let update = "UPDATE components SET signature = ?1 WHERE digest = ?2";
                transaction
                    .execute(update, params![signature.to_string(), digest])
                    .map_err(StateError::from)?;
            }
            return Ok(false);
        }
        return Err(ComponentError::VersionTaken { component: identity.to_string(), found, offered: digest });
    }
    let size = i64::try_from(component.size()).unwrap_or(i64::MAX);
    let world = component.world().name();
    transaction
        .execute(
            &format!("INSERT INTO components ({COMPONENT_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"),
            params![
                digest,
                identity.name,
                identity.version,
                identity.summary,
                world,
                size,
                now(),
                signature.map(ToString::to_string)
            ],
        )
        .map_err(StateError::from)?;
    Ok(true)
}

pub(super) fn delete_component(transaction: &Transaction<'_>, digest: Digest) -> Result<(), StateError> {
    transaction.execute("DELETE FROM components WHERE digest = ?1", [digest.to_string()])?;
    Ok(())
}

pub(super) fn rows<T>(
    connection: &Connection,
    select: &str,
    parameters: &[&dyn rusqlite::ToSql],
    parse: impl Fn(&Row<'_>) -> Result<T, ComponentError>,
) -> Result<Vec<T>, ComponentError> {
    let mut statement = connection.prepare(select).map_err(StateError::from)?;
    let mut rows = statement.query(parameters).map_err(StateError::from)?;
    let mut parsed = Vec::new();
    while let Some(row) = rows.next().map_err(StateError::from)? {
        parsed.push(parse(row)?);
    }
    Ok(parsed)
}

fn component_row(row: &Row<'_>) -> Result<ComponentRecord, ComponentError> {
    Ok(ComponentRecord {
        name: column(row, "name")?,
        version: column(row, "version")?,
        summary: column(row, "summary")?,
        world: column::<String>(row, "world")?.parse()?,
        digest: column::<String>(row, "digest")?.parse()?,
        size: number(row, "size")?,
        created: number(row, "created")?,
        signature: column::<Option<String>>(row, "signature")?.map(|text| text.parse()).transpose()?,
        signer: None,
        active_in: Vec::new(),
        places: Vec::new(),
    })
}

pub(super) fn column<T: rusqlite::types::FromSql>(row: &Row<'_>, name: &str) -> Result<T, StateError> {
    Ok(row.get(name)?)
}

pub(super) fn number(row: &Row<'_>, name: &str) -> Result<u64, StateError> {
    Ok(u64::try_from(column::<i64>(row, name)?).unwrap_or(0))
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}
