//! What a component gets with its place in a slot: a configuration, and what it may reach.

use crate::{ComponentError, Configuration, GrantedHosts, Identity, World};

/// All that an operator says of a component in a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provision {
    /// What it is told.
    pub configuration: Configuration,
    /// Where it may send requests.
    pub granted_hosts: GrantedHosts,
}

impl Provision {
    /// Refuses what a component of this world has no use for.
    pub(crate) fn check(&self, identity: &Identity, world: World) -> Result<(), ComponentError> {
        let refused = if world != World::RequestRouter && !self.configuration.is_empty() {
            "configuration"
        } else if world != World::HttpEndpoint && !self.granted_hosts.is_empty() {
            "granted hosts"
        } else {
            return Ok(());
        };
        Err(ComponentError::Unsupported {
            component: identity.to_string(),
            problem: format!("has the world {world}, which takes no {refused}"),
        })
    }
}

impl From<&Configuration> for Provision {
    fn from(configuration: &Configuration) -> Self {
        Self { configuration: configuration.clone(), granted_hosts: GrantedHosts::default() }
    }
}

impl From<&Self> for Provision {
    fn from(provision: &Self) -> Self {
        provision.clone()
    }
}
