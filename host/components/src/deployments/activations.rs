//! What the database knows of slots: one record for each change of one, the newest in force.
//!
//! A record says everything about its slot: which component is active with which configuration, and which one is on
//! trial beside it. So every change is one row, and going back is reading an earlier one.

use espalier_state::rusqlite::{Connection, Row, Transaction, params};
use espalier_state::{Digest, Revision, StateError, advance_revision};
use serde::{Deserialize, Serialize};

use super::records::{Place, column, now, number, rows};
use super::share::CallShare;
use super::slot::Slot;
use crate::{ComponentError, Configuration, GrantedHosts, Provision};

const COLUMNS: &str = "slot, revision, component, label, activated, configuration, canary, granted_hosts";

/// What a slot has from one revision on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Activation {
    /// The slot.
    pub slot: Slot,
    /// The slot's revision, counted from 1.
    pub revision: Revision,
    /// The digest of the active component.
    pub digest: Digest,
    /// Its name and version.
    pub component: String,
    /// Its configuration.
    #[serde(skip_serializing_if = "Configuration::is_empty")]
    pub configuration: Configuration,
    /// Where it may send requests.
    #[serde(skip_serializing_if = "GrantedHosts::is_empty")]
    pub granted_hosts: GrantedHosts,
    /// The component that is on trial beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// When, in seconds since 1970.
    pub activated: u64,
}

/// A component that gets a share of a slot's calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// Its digest.
    pub digest: Digest,
    /// Its name and version.
    pub component: String,
    /// Its configuration.
    #[serde(default, skip_serializing_if = "Configuration::is_empty")]
    pub configuration: Configuration,
    /// Where it may send requests.
    #[serde(default, skip_serializing_if = "GrantedHosts::is_empty")]
    pub granted_hosts: GrantedHosts,
    /// The share of the calls that it gets.
    pub weight: CallShare,
}

impl Canary {
    /// What it gets with its place.
    pub(super) fn provision(&self) -> Provision {
        Provision { configuration: self.configuration.clone(), granted_hosts: self.granted_hosts.clone() }
    }
}

impl Activation {
    /// What the active component gets with its place.
    pub(super) fn provision(&self) -> Provision {
        Provision { configuration: self.configuration.clone(), granted_hosts: self.granted_hosts.clone() }
    }

    /// The places that the component of this digest has by an activation.
    pub(super) fn places_of(digest: Digest) -> impl Fn(&Self) -> Vec<Place> {
        move |activation| {
            let canary = activation.canary.as_ref();
            let weight = canary.map_or(0.0, |canary| canary.weight.get());
            let place = |canary, weight, provision: Provision| Place {
                slot: activation.slot.clone(),
                canary,
                weight,
                configuration: provision.configuration,
                granted_hosts: provision.granted_hosts,
            };
            let active =
                (activation.digest == digest).then(|| place(false, 1.0 - weight, activation.provision()));
            let on_trial = canary.filter(|canary| canary.digest == digest);
            active.into_iter().chain(on_trial.map(|trial| place(true, weight, trial.provision()))).collect()
        }
    }

    /// Whether the same component is active with the same configuration and grants.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (self.digest, self.provision()) == (other.digest, other.provision())
    }
}

/// What a slot is to have.
pub(super) struct Wanted<'a> {
    pub(super) slot: &'a Slot,
    pub(super) digest: Digest,
    pub(super) component: &'a str,
    pub(super) provision: &'a Provision,
    pub(super) canary: Option<&'a Canary>,
}

/// Gives a slot what is wanted, as its next revision.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    wanted: &Wanted<'_>,
    expected: Option<Revision>,
) -> Result<Activation, ComponentError> {
    refuse_unless_deployed(transaction, wanted.digest, wanted.component)?;
    if let Some(canary) = wanted.canary {
        refuse_unless_deployed(transaction, canary.digest, &canary.component)?;
    }
    let revision = advance_revision(transaction, &format!("slot {}", wanted.slot), expected)?;
    let activated = now();
    transaction
        .execute(
            &format!("INSERT INTO activations ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"),
            params![
                wanted.slot.to_string(),
                revision,
                wanted.digest.to_string(),
                wanted.component,
                activated,
                json(&wanted.provision.configuration)?,
                wanted.canary.map(json).transpose()?,
                json(&wanted.provision.granted_hosts)?,
            ],
        )
        .map_err(StateError::from)?;
    Ok(Activation {
        slot: wanted.slot.clone(),
        revision,
        digest: wanted.digest,
        component: wanted.component.to_owned(),
        configuration: wanted.provision.configuration.clone(),
        granted_hosts: wanted.provision.granted_hosts.clone(),
        canary: wanted.canary.cloned(),
        activated: u64::try_from(activated).unwrap_or(0),
    })
}

/// It may have been removed since the caller looked it up.
fn refuse_unless_deployed(
    transaction: &Transaction<'_>,
    digest: Digest,
    label: &str,
) -> Result<(), ComponentError> {
    let select = "SELECT EXISTS (SELECT 1 FROM components WHERE digest = ?1)";
    let deployed: bool =
        transaction.query_row(select, [digest.to_string()], |row| row.get(0)).map_err(StateError::from)?;
    if deployed { Ok(()) } else { Err(ComponentError::NotDeployed(label.to_owned())) }
}

/// The activation in force in each slot.
pub(super) fn current_activations(connection: &Connection) -> Result<Vec<Activation>, ComponentError> {
    let newest = "(SELECT max(revision) FROM activations AS other WHERE other.slot = activations.slot)";
    let select = format!("SELECT {COLUMNS} FROM activations WHERE revision = {newest} ORDER BY slot");
    rows(connection, &select, &[], activation_row)
}

/// All activations of a slot, newest first.
pub(super) fn history(connection: &Connection, slot: &Slot) -> Result<Vec<Activation>, ComponentError> {
    let select = format!("SELECT {COLUMNS} FROM activations WHERE slot = ?1 ORDER BY revision DESC");
    rows(connection, &select, &[&slot.to_string()], activation_row)
}

fn activation_row(row: &Row<'_>) -> Result<Activation, ComponentError> {
    let canary: Option<String> = column(row, "canary")?;
    Ok(Activation {
        slot: column::<String>(row, "slot")?.parse()?,
        revision: column(row, "revision")?,
        digest: column::<String>(row, "component")?.parse()?,
        component: column(row, "label")?,
        configuration: from_json(&column::<String>(row, "configuration")?)?,
        granted_hosts: from_json(&column::<String>(row, "granted_hosts")?)?,
        canary: canary.map(|text| from_json(&text)).transpose()?,
        activated: number(row, "activated")?,
    })
}

fn json<T: Serialize>(value: &T) -> Result<String, ComponentError> {
    serde_json::to_string(value).map_err(|error| unreadable(&error))
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, ComponentError> {
    serde_json::from_str(text).map_err(|error| unreadable(&error))
}

fn unreadable(error: &serde_json::Error) -> ComponentError {
    ComponentError::Record(error.to_string())
}
