//! A search as an aligned table for a terminal.

use std::fmt::Write as _;

use super::{Candidate, Search};

impl Search {
    /// The front, the choice and how near its prediction came, in lines.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "Choices that nothing beats ({}; loss of the unpruned model {:.4} nats per token, before recovery):\n",
            self.budgets, self.unpruned_loss
        );
        let latency = if self.latency.is_some() { "   ms/token" } else { "" };
        let _ = writeln!(text, "    parameters     memory{latency}  perplexity  units that stay");
        for candidate in &self.front {
            let mark = if *candidate == self.chosen { "*" } else { " " };
            let _ = writeln!(text, "{mark} {}", self.line(candidate));
        }
        if !self.front.contains(&self.chosen) {
            let _ = writeln!(text, "* {}", self.line(&self.chosen));
        }
        let (predicted, measured) = (self.chosen.predicted_rise.exp(), self.measured_rise.exp());
        let _ = writeln!(text, "* chosen: perplexity x {predicted:.3} predicted, x {measured:.3} measured");
        text
    }

    fn line(&self, candidate: &Candidate) -> String {
        let share = |value: f64, whole: f64| 100.0 * value / whole.max(f64::MIN_POSITIVE);
        let counts = candidate.counts.iter().map(|(unit, count)| format!("{unit}={count}"));
        let counts = counts.collect::<Vec<_>>().join(" ");
        let latency = candidate.latency_ms.map(|latency| format!("{latency:>11.2}")).unwrap_or_default();
        format!(
            "{:>10.1} % {:>8.1} %{latency}  x {:>8.3}  {counts}",
            share(candidate.parameters as f64, self.unpruned.parameters as f64),
            share(candidate.bytes as f64, self.unpruned.bytes as f64),
            candidate.predicted_rise.exp(),
        )
    }
}
