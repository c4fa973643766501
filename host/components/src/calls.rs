//! Who is told of the calls into deployed components.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{ComponentError, Identity, Slot};

/// One call, after it ended.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The component's name and version.
    pub component: &'a Identity,
    /// The slot that it was asked for by; a built-in component answers in the slot of its own name.
    pub slot: &'a Slot,
    /// How long the call took, with the host functions that it used and, where one had to be started, the instance.
    pub duration: Duration,
    /// What the call failed with.
    pub error: Option<&'a ComponentError>,
}

/// Counts or logs calls. It is called on the thread of the call, so it must be quick.
pub trait CallObserver: Send + Sync {
    /// A call ended.
    fn called(&self, call: &Call<'_>);
}

/// Nobody is told.
impl CallObserver for () {
    fn called(&self, _: &Call<'_>) {}
}

/// What reports the calls of one component in one slot. Clones share it.
#[derive(Clone)]
pub(crate) struct CallReport(Option<Arc<Observed>>);

struct Observed {
    component: Identity,
    slot: Slot,
    observer: Arc<dyn CallObserver>,
}

impl CallReport {
    /// For a component that is in no slot.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    pub(crate) fn to(observer: Arc<dyn CallObserver>, component: Identity, slot: Slot) -> Self {
        Self(Some(Arc::new(Observed { component, slot, observer })))
    }

    /// Reports a call that ended now, for one that is not made in one go.
    pub(crate) fn ended(&self, began: Instant, error: Option<&ComponentError>) {
        let Some(observed) = &self.0 else { return };
        observed.observer.called(&Call {
            component: &observed.component,
            slot: &observed.slot,
            duration: began.elapsed(),
            error,
        });
    }

    /// Makes the call and reports how it ended.
    pub(crate) fn watch<T>(
        &self,
        call: impl FnOnce() -> Result<T, ComponentError>,
    ) -> Result<T, ComponentError> {
        let began = Instant::now();
        let answer = call();
        self.ended(began, answer.as_ref().err());
        answer
    }
}

impl fmt::Debug for CallReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallReport").field(&self.0.as_ref().map(|observed| &observed.slot)).finish()
    }
}
