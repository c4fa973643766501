//! What attention tells about its scores, where a probe asks for it.

use espalier_kernels::RowStatistics;

use crate::probe::{Probe, ProbeSink};

/// A probe and the number of each row that it shows.
type Column = (Probe, fn(&RowStatistics) -> f32);

/// The probes that attention answers.
const COLUMNS: [Column; 4] = [
    (Probe::AttentionEntropy, |row| row.entropy),
    (Probe::ScoreMean, |row| row.score_mean),
    (Probe::ScoreVariance, |row| row.score_variance),
    (Probe::SinkMass, |row| row.sink_mass),
];

/// One layer's statistics, a row for each token and head; empty where no probe asks for them.
pub(crate) struct AttentionStatistics {
    rows: Vec<RowStatistics>,
}

impl AttentionStatistics {
    /// Room for `rows` rows if `probes` wants any of them.
    pub(crate) fn new(probes: &dyn ProbeSink, layer: usize, rows: usize) -> Self {
        let wanted = COLUMNS.iter().any(|(probe, _)| probes.wants(layer, *probe));
        Self { rows: vec![RowStatistics::default(); if wanted { rows } else { 0 }] }
    }

    /// The rows, if they are wanted.
    pub(crate) fn wanted(&mut self) -> Option<&mut [RowStatistics]> {
        Some(self.rows.as_mut_slice()).filter(|rows| !rows.is_empty())
    }

    /// Hands what is wanted to `probes`.
    pub(crate) fn show(&self, probes: &mut dyn ProbeSink, layer: usize, heads: usize) {
        if self.rows.is_empty() {
            return;
        }
        for (probe, column) in COLUMNS {
            if probes.wants(layer, probe) {
                let values: Vec<f32> = self.rows.iter().map(column).collect();
                probes.record(layer, probe, self.rows.len() / heads.max(1), heads, &values);
            }
        }
    }
}
