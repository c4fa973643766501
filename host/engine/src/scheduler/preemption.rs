//! Room for those that run, at the cost of those that rank behind them.

use super::{Budget, Scheduler, StepPlan};

impl Scheduler {
    /// Makes room for up to `wanted` tokens more of a running sequence. Returns its index and for how many tokens there
    /// is room; none where it has to wait for those that rank before it.
    pub(super) fn room_for(
        &mut self,
        arrival: u64,
        wanted: usize,
        budget: &mut Budget,
        plan: &mut StepPlan,
    ) -> Option<(usize, usize)> {
        loop {
            let index = self.running.iter().position(|sequence| sequence.arrival == arrival)?;
            let sequence = &mut self.running[index];
            let tokens = self.cache.grow(&mut sequence.blocks, sequence.computed, wanted);
            if wanted == 0 || tokens > 0 {
                return (tokens > 0).then_some((index, tokens));
            }
            let rank = sequence.rank();
            let victim = self.last_running().filter(|victim| self.running[*victim].rank() > rank)?;
            self.preempt(victim, budget, plan);
        }
    }

    /// The running sequence that ranks last.
    pub(super) fn last_running(&self) -> Option<usize> {
        (0..self.running.len()).max_by_key(|index| self.running[*index].rank())
    }

    /// Takes a running sequence's blocks and has it wait; what it was to get of the step is free for others.
    pub(super) fn preempt(&mut self, victim: usize, budget: &mut Budget, plan: &mut StepPlan) {
        let mut sequence = self.running.swap_remove(victim);
        let planned = std::mem::take(&mut sequence.planned);
        budget.tokens += planned;
        if sequence.scores_prompt() {
            budget.scored_rows += planned;
        }
        self.cache.release(&mut sequence.blocks);
        sequence.computed = 0;
        sequence.guess.clear();
        plan.preemptions += 1;
        self.waiting.push(sequence);
    }
}
