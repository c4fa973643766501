//! What each flow has got, so that the next place goes to the one that has got least.
//!
//! These are the virtual token counters of Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024): a
//! counter grows with the tokens that its flow is served, an output token counting as two prompt tokens, and a flow that
//! comes back is lifted to the least of those that are active, so that nobody can save up service by staying away.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Requests that share one fair part of the service; those without a name are one flow together.
pub(crate) type Flow = Option<Arc<str>>;

const PROMPT_WEIGHT: u64 = 1;
const OUTPUT_WEIGHT: u64 = 2;

/// The counters of the flows that are active, and of those that left while they were ahead.
#[derive(Debug, Default)]
pub(crate) struct ServiceCounters {
    counters: HashMap<Flow, u64>,
}

impl ServiceCounters {
    /// A request of `flow` arrives while the flows in `active` have requests, waiting or running.
    pub(crate) fn arrive(&mut self, flow: &Flow, active: &HashSet<&Flow>) {
        if active.contains(flow) {
            return;
        }
        let least = active.iter().map(|active| self.of(active)).min();
        // Whoever left with no more than the least would be lifted to it: nothing is lost by forgetting them.
        self.counters
            .retain(|flow, counter| active.contains(flow) || least.is_some_and(|least| *counter > least));
        let counter = self.counters.entry(flow.clone()).or_default();
        *counter = (*counter).max(least.unwrap_or_default());
    }

    /// Tokens of a prompt are about to be computed for `flow`.
    pub(crate) fn prompt(&mut self, flow: &Flow, tokens: usize) {
        self.serve(flow, PROMPT_WEIGHT * tokens as u64);
    }

    /// Tokens of a completion are about to be computed for `flow`.
    pub(crate) fn output(&mut self, flow: &Flow, tokens: usize) {
        self.serve(flow, OUTPUT_WEIGHT * tokens as u64);
    }

    /// What `flow` has got.
    pub(crate) fn of(&self, flow: &Flow) -> u64 {
        self.counters.get(flow).copied().unwrap_or_default()
    }

    fn serve(&mut self, flow: &Flow, service: u64) {
        if let Some(counter) = self.counters.get_mut(flow) {
            *counter = counter.saturating_add(service);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(name: &str) -> Flow {
        Some(name.into())
    }

    #[test]
    fn a_returning_flow_is_lifted_to_the_least_active_one() {
        let (a, b, c) = (flow("a"), flow("b"), flow("c"));
        let mut service = ServiceCounters::default();
        service.arrive(&a, &HashSet::new());
        service.prompt(&a, 100);
        service.arrive(&b, &HashSet::from([&a]));
        assert_eq!(service.of(&b), 100);
        service.output(&b, 20);
        service.arrive(&c, &HashSet::from([&a, &b]));
        assert_eq!((service.of(&a), service.of(&b), service.of(&c)), (100, 140, 100));
    }

    #[test]
    fn leaving_clears_no_debt_and_saves_no_service() {
        let (a, b) = (flow("a"), flow("b"));
        let mut service = ServiceCounters::default();
        service.arrive(&a, &HashSet::new());
        service.arrive(&b, &HashSet::from([&a]));
        service.prompt(&a, 500);
        service.prompt(&b, 100);
        service.arrive(&a, &HashSet::from([&b]));
        assert_eq!(service.of(&a), 500, "it left while it was ahead");
        service.prompt(&a, 100);
        service.arrive(&b, &HashSet::from([&a]));
        assert_eq!(service.of(&b), 600, "it stayed away");
        service.arrive(&a, &HashSet::new());
        assert_eq!((service.of(&a), service.counters.len()), (0, 1), "with nobody else nothing is compared");
    }
}
