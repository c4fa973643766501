//! Trying a component beside the active one: a canary gets a share of a slot's calls, until it is promoted or ended.
//!
//! Each step is one record with the slot's next revision, like any activation. [`Deployments::roll_back`] ends a canary.

use espalier_state::Revision;

use super::activations::{self, Activation, Canary, Wanted};
use super::{CallShare, Deployments, Slot};
use crate::{ComponentError, Provision};

impl Deployments {
    /// Gives a share of a slot's calls to a deployed component, in the place of any canary before it. The active component
    /// stays. With `expected`, only if the slot is at that revision.
    pub fn try_canary(
        &self,
        slot: &Slot,
        reference: &str,
        provision: impl Into<Provision>,
        weight: CallShare,
        expected: Option<Revision>,
    ) -> Result<Activation, ComponentError> {
        let component = self.component_for(slot, reference)?;
        let provision = provision.into();
        let on_trial = self.start(slot, component.clone(), &provision)?;
        let current = self.current(slot)?;
        let stable = self.load_deployed(current.digest, &current.component)?;
        let stable_provision = current.provision();
        let running = self.start(slot, stable, &stable_provision)?;
        let canary = Canary {
            digest: component.digest(),
            component: component.label().to_owned(),
            configuration: provision.configuration,
            granted_hosts: provision.granted_hosts,
            weight,
        };
        let wanted = Wanted {
            slot,
            digest: current.digest,
            component: &current.component,
            provision: &stable_provision,
            canary: Some(&canary),
        };
        // What stays active was read, so the change holds only for that revision.
        let expected = Some(expected.unwrap_or(current.revision));
        let activation =
            self.inner.state.write(|transaction| activations::insert(transaction, &wanted, expected))?;
        tracing::info!(
            %slot,
            component = %canary.component,
            weight = weight.get(),
            revision = %activation.revision,
            "on trial as a canary"
        );
        self.put_in_force(activation.clone(), Ok(running), Some(Ok(on_trial)));
        Ok(activation)
    }

    /// Makes a slot's canary its active component, with what the canary was given.
    pub fn promote(&self, slot: &Slot, expected: Option<Revision>) -> Result<Activation, ComponentError> {
        let current = self.current(slot)?;
        let canary = current.canary.ok_or_else(|| ComponentError::NoCanary(slot.to_string()))?;
        let expected = Some(expected.unwrap_or(current.revision));
        self.configure(slot, &canary.digest.to_string(), canary.provision(), expected)
    }

    /// What is in force in a slot.
    pub(super) fn current(&self, slot: &Slot) -> Result<Activation, ComponentError> {
        let active = self.active();
        let active = active.get(slot).ok_or_else(|| ComponentError::SlotEmpty(slot.to_string()))?;
        Ok(active.activation.clone())
    }
}
